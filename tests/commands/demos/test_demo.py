"""The demo: a lesson, or a new model on data every machine has, with settings to override."""

from pathlib import Path

import pytest

from headway.base.errors import Cause, Exit, Refusal, UsageError
from headway.commands.demos import demo
from headway.commands.demos.demo_export import Asked
from headway.config.command_line import Arguments
from headway.config.settings import Given


def test_its_data_is_on_this_machine() -> None:
    (pattern,) = demo.sources()
    files = list(Path(pattern).parent.glob(Path(pattern).name))
    assert sum(file.stat().st_size for file in files) > 1_000_000


def test_what_a_person_types_overrides_its_settings() -> None:
    assert demo.settings(()).max_steps == demo.STEPS
    changed = demo.settings((Given("max_steps", "5", "--max-steps"),))
    assert (changed.max_steps, changed.preset, changed.run_name) == (5, "mini", "demo-from-scratch")
    with pytest.raises(Refusal):
        demo.settings((Given("max_steps", "many", "--max-steps"),))


def test_it_takes_no_data() -> None:
    with pytest.raises(UsageError) as refused:
        demo.demo(Arguments(words=["notes.txt"]))
    assert refused.value.cause is Cause.UNEXPECTED_ARGUMENT
    assert refused.value.remedies[0].do == "headway train notes.txt"


def test_one_demo_at_a_time() -> None:
    with pytest.raises(UsageError) as refused:
        demo.demo(Arguments(switches={"inbox": "", "from_scratch": ""}))
    assert refused.value.cause is Cause.CONTRADICTION


@pytest.mark.parametrize(("code", "num"), [(Exit.KEPT, 1), (Exit.BROKEN, 0)])
def test_a_new_model_that_was_trained_is_exported(
    code: Exit, num: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported: list[tuple[Path, Asked]] = []
    monkeypatch.setattr(demo, "run_training", lambda *_: code)
    monkeypatch.setattr(demo, "planned_export", lambda *_: lambda *what: exported.append(what))
    given = [Given("output_dir", str(tmp_path), "-o")]
    assert demo.demo(Arguments(given=given, switches={"from_scratch": ""})) == code
    assert exported == [(tmp_path / "demo-from-scratch", Asked())] * num


@pytest.mark.parametrize(
    ("switches", "verb"),
    [({}, "teach"), ({"from_scratch": ""}, "train"), ({"inbox": ""}, "inbox")],
)
def test_the_real_model_is_taught_unless_asked_otherwise(
    switches: dict[str, str], verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "teach", lambda *_: "teach")
    monkeypatch.setattr(demo, "run_training", lambda *_: "train")
    monkeypatch.setattr(demo, "teach_inbox", lambda *_: "inbox")
    assert demo.demo(Arguments(switches=switches)) == verb
