"""check: which folder, and which base model it names itself."""

from pathlib import Path

import pytest
from tests.export.folders import adapter_folder, model_folder
from tests.ui.fixtures import conversations_plan

from headway.base.errors import Cause, UsageError
from headway.commands.exports.check import VERBS, find_folder, known_base
from headway.config.command_line import Arguments


def test_a_folder_or_a_run_is_found(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    folder = model_folder(tmp_path / "model")
    assert find_folder(str(folder), runs) == folder
    run = runs / "support-b"
    checkpoint = model_folder(run / "checkpoint-20")
    conversations_plan().save(run)
    assert find_folder("support-b", runs) == checkpoint
    (run / "model").symlink_to("checkpoint-20")
    for word in ("support-b", str(run), str(run / "model"), str(checkpoint)):
        assert find_folder(word, runs) == checkpoint


@pytest.mark.parametrize("word", ["nothing", "file"])
def test_what_is_no_folder_is_refused(tmp_path: Path, word: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError) as refused:
        find_folder(str(tmp_path / word), tmp_path / "runs")
    assert refused.value.cause is Cause.MODEL_NOT_FOUND


@pytest.mark.parametrize(
    ("words", "cause"),
    [([], Cause.MISSING_ARGUMENT), (["a", "b"], Cause.UNEXPECTED_ARGUMENT)],
)
def test_one_folder_at_a_time(words: list[str], cause: Cause) -> None:
    with pytest.raises(UsageError) as refused:
        VERBS["check"](Arguments(words=words))
    assert refused.value.cause is cause


def test_adapters_and_runs_name_their_base(tmp_path: Path) -> None:
    base = model_folder(tmp_path / "base")
    adapter = adapter_folder(tmp_path / "adapter", base)
    assert known_base(adapter) == base
    assert known_base(base) is None
    gone = adapter_folder(tmp_path / "gone", tmp_path / "moved")
    assert known_base(gone) is None
    (adapter / "adapter_config.json").write_bytes(b"\xff{")
    assert known_base(adapter) is None
