"""Settings of an inbox: from its file and the command line, all problems at once, one model."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from headway.base.errors import Cause, Problems, Refusal, UsageError
from headway.config.command_line import parse
from headway.config.settings import Given
from headway.config.values import FEW
from headway.inbox.folder import InboxFolder
from headway.inbox.options import (
    InboxOptions,
    InboxSettings,
    load_first_model,
    read_inbox_settings,
    save_first_model,
    settings_as_words,
    settings_of_file,
)

PRESET = Given("--preset", "mini", "--preset")


@pytest.fixture
def inbox(tmp_path: Path) -> InboxFolder:
    folder = InboxFolder(tmp_path / "inbox")
    folder.make()
    return folder


def read(
    inbox: InboxFolder,
    text: str = "",
    typed: Sequence[Given] = (PRESET,),
    *,
    has_trained: bool = False,
    **switches: str,
) -> InboxSettings:
    if text:
        inbox.settings.write_text(text)
    return read_inbox_settings(inbox, typed, switches, has_trained=has_trained)


def refusal(inbox: InboxFolder, text: str = "", **more: object) -> Refusal:
    with pytest.raises(Refusal) as found:
        read(inbox, text, **more)  # type: ignore[arg-type]
    return found.value


def test_the_file_has_settings_of_training_and_of_the_inbox(inbox: InboxFolder) -> None:
    text = "batch_size: 4\nsample_prompts: [a, b]\n"
    text += "inbox:\n  on_duplicate: fail\n  priority: [a*, b*]\n"
    found = read(inbox, text)
    assert found.options == InboxOptions("fail", ("a*", "b*"))
    assert [(one.name, one.value) for one in found.settings] == [
        ("lr_scheduler_type", "constant"), ("val_size", "few"), ("batch_size", "4"),
        ("sample_prompts", ["a", "b"])
    ]  # fmt: skip
    assert [(one.name, one.value) for one in found.first_model.settings] == [("--preset", "mini")]


@pytest.mark.parametrize(("text", "kept"), [("5", 5), ("all", None), ("2", 2)])
def test_models_are_kept_by_number(inbox: InboxFolder, text: str, kept: int | None) -> None:
    assert read(inbox, f"inbox:\n  keep_models: {text}\n").options.keep_models == kept


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("kept", ("kept",)),
        ("nothing_forgotten", ("nothing_forgotten",)),
        ("improved and nothing_forgotten", ("improved", "nothing_forgotten")),
    ],
)
def test_a_gate_is_read_from_both(inbox: InboxFolder, text: str, terms: tuple[str, ...]) -> None:
    assert read(inbox, f"inbox:\n  promote_if: {text}\n").options.promote_if == terms
    assert read(inbox, "inbox:\n  priority: a\n", promote_if=text).options.promote_if == terms


def test_few_rows_of_each_file_are_held_out_unless_asked_otherwise(inbox: InboxFolder) -> None:
    for text, size in (("", FEW), ("val_size: 0\n", 0), ("val_size: 7\n", 7)):
        given = read(inbox, text).settings
        own = {"run_name": "a", "output_dir": "/r", "parent": "/r/0001-a"}
        assert settings_of_file(given, None, **own).val_size == size


def test_what_is_typed_wins(inbox: InboxFolder) -> None:
    text = "batch_size: 4\ninbox:\n  on_duplicate: fail\n"
    typed = [PRESET, Given("--batch-size", "2", "--batch-size")]
    found = read(inbox, text, typed, on_duplicate="train", priority="urgent-*, exam*")
    assert found.options == InboxOptions("train", ("urgent-*", "exam*"))
    settings = settings_of_file(
        found.settings, found.first_model, run_name="0001-a", output_dir="/r", parent=""
    )
    assert (settings.batch_size, settings.preset) == (2, "mini")
    assert settings.lr_scheduler_type == "constant"
    assert settings.origin("batch_size") == "--batch-size"


def test_a_file_goes_on_from_the_one_before(inbox: InboxFolder) -> None:
    found = read(inbox)
    settings = settings_of_file(
        found.settings, found.first_model, run_name="0002-b", output_dir="/r", parent="/r/0001-a"
    )
    assert (settings.continue_run, settings.preset) == ("/r/0001-a", None)
    assert (settings.run_name, settings.output_dir) == ("0002-b", "/r")


def test_a_schedule_that_is_asked_for_is_used(inbox: InboxFolder) -> None:
    found = read(inbox, "lr_scheduler_type: cosine\n")
    settings = settings_of_file(
        found.settings, found.first_model, run_name="a", output_dir="/r", parent=""
    )
    assert settings.lr_scheduler_type == "cosine"


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("run_name: x\n", Cause.CONTRADICTION),
        ("output_dir: x\n", Cause.CONTRADICTION),
        ("continue: x\n", Cause.CONTRADICTION),
        ("fresh: true\n", Cause.CONTRADICTION),
        ("data: x.jsonl\n", Cause.CONTRADICTION),
        ("max_lenght: 4\n", Cause.UNKNOWN_SETTING),
        ("inbox:\n  on_duplicates: skip\n", Cause.UNKNOWN_SETTING),
        ("inbox:\n  on_duplicate: maybe\n", Cause.INVALID_VALUE),
        ("inbox:\n  priority: ''\n", Cause.INVALID_VALUE),
        ("inbox:\n  train_between: at night\n", Cause.INVALID_VALUE),
        ("inbox:\n  keep_models: 1\n", Cause.INVALID_VALUE),
        ("inbox:\n  promote_if: good\n", Cause.INVALID_VALUE),
        ("inbox:\n  promote_if: improved or kept\n", Cause.INVALID_VALUE),
        ("inbox:\n  keep_models: few\n", Cause.INVALID_VALUE),
    ],
)
def test_what_an_inbox_does_not_take_is_refused_where_it_stands(
    inbox: InboxFolder, text: str, cause: Cause
) -> None:
    found = refusal(inbox, text)
    assert found.cause is cause
    assert "headway.yaml" in found.what


def test_all_problems_come_at_once(inbox: InboxFolder) -> None:
    found = refusal(inbox, "run_name: x\nbatch_size: none\ninbox:\n  on_duplicate: maybe\n")
    assert isinstance(found, Problems)
    assert len(found.problems) == 3


def test_settings_become_words_of_another_command_line() -> None:
    model = Given("--model", "some/model", "--model")
    given = [model, Given("lr", "2e-4", "--lr"), Given("--lora.r", "8", "--lora.r")]
    given.append(Given("--sample-prompts", ["a b", "c"], "--sample-prompts"))
    words = settings_as_words(given)
    assert words == [
        "--model=some/model", "--learning-rate=2e-4", "--lora.r=8", "--sample-prompts=a b",
        "--sample-prompts=c",
    ]  # fmt: skip
    assert parse(words, {}, settings=True).settings()[1].lora_r == 8


# ---- the model ---------------------------------------------------------------------------------


def test_an_inbox_needs_a_model_to_begin_with(inbox: InboxFolder) -> None:
    found = refusal(inbox, typed=())
    assert found.cause is Cause.MODEL_REQUIRED
    assert [one.do.rpartition(" --")[2] for one in found.remedies] == ["preset mini", "model DIR"]


def test_it_is_kept_for_the_next_start(inbox: InboxFolder, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    relative = Given("--model", str(tmp_path / "x" / ".." / "model"), "--model")
    (tmp_path / "x").mkdir()
    save_first_model(inbox, read(inbox, typed=(relative,)).first_model)
    again = read(inbox, typed=())
    assert again.first_model.settings[0].value == str(tmp_path / "model")
    assert load_first_model(inbox) == again.first_model


def test_another_model_is_refused_once_a_file_was_trained(inbox: InboxFolder) -> None:
    save_first_model(inbox, read(inbox).first_model)
    other = (Given("--preset", "tiny", "--preset"),)
    assert read(inbox, typed=other).first_model.settings[0].value == "tiny"
    assert read(inbox, has_trained=True).first_model.settings[0].value == "mini"
    found = refusal(inbox, typed=other, has_trained=True)
    assert found.cause is Cause.CONTRADICTION
    assert "it began with --preset mini" in found.have


def test_a_damaged_one_is_named(inbox: InboxFolder) -> None:
    inbox.first_model.write_text("{")
    with pytest.raises(UsageError, match="first_model"):
        read(inbox, typed=())
