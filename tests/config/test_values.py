"""Values are read as people write them; an invalid one is refused with a valid one."""

from pathlib import Path

import pytest

from headway.base.errors import Problems, Refusal, UsageError
from headway.config.resolve import resolve
from headway.config.settings import Given, Settings, printed_name, table
from headway.config.values import FEW, check_utf8, working_folder

ROWS = {printed_name(row): row for row in table()}


def asked(**settings: object) -> Settings:
    return resolve([Given(name, value, "you") for name, value in settings.items()])


def refused(*given_settings: Given) -> Refusal:
    with pytest.raises((UsageError, Problems)) as refusal:
        resolve(given_settings)
    return refusal.value


def tries(refusal: Refusal) -> list[str]:
    return [remedy.do for remedy in refusal.remedies]


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("learning_rate", "2e-4", 0.0002),
        ("max_steps", "1" + "0" * 40, 10**40),
        ("max_steps", "2_488", 2488),
        ("max_steps", "2,488", 2488),
        ("max_steps", "1e3", 1000),
        ("seed", "9007199254740993", 9007199254740993),
        ("max_tokens", "2M", 2_000_000),
        ("max_tokens", "1e6", 1_000_000),
        ("max_time", "1h30m", 5400.0),
        ("max_time", "90", 90.0),
        ("bf16", "on", True),
        ("bf16", "No", False),
        ("bf16", "1", True),
        ("sample_prompts", "Once", ("Once",)),
        ("sample_prompts", ["a", "b"], ("a", "b")),
        ("val_size", "0.1", 0.1),
        ("val_size", "few", FEW),
        ("val_size", FEW, FEW),  # of a run that is continued
        ("lr_scheduler_type", "wsd", "wsd"),
        ("lr_scheduler_type", "per_file_cosine", "cosine"),
        ("device", None, None),
    ],
)
def test_values_read_as_people_write_them(name: str, text: object, value: object) -> None:
    assert getattr(asked(**{name: text}), ROWS[name].name) == value


@pytest.mark.parametrize(
    ("name", "text", "need"),
    [
        ("batch_size", "eight", "a number"),
        ("batch_size", "0", "at least 1"),
        ("batch_size", "1.5", "a whole number"),
        ("batch_size", "inf", "a whole number"),
        ("batch_size", "nan", "a whole number"),
        ("batch_size", True, "a number"),
        ("batch_size", ["8"], "a number"),
        ("batch_size", "", "a number"),
        ("learning_rate", "0", "more than 0"),
        ("learning_rate", "inf", "a finite number"),
        ("learning_rate", "nan", "a finite number"),
        ("lora.lora_dropout", "1", "at most 0.99"),
        ("max_rejected", "-0.1", "at least 0"),
        ("val_size", "-1", "at least 0"),
        ("val_size", "a few", "a number or few"),
        ("max_tokens", "5x", "a whole number like 500000 or 2M"),
        ("max_time", "soon", "a duration like 90, 10m or 1h30m"),
        ("bf16", "maybe", "true or false"),
        ("optim", "sgd", "the optimizers are adamw, in 8 bits or paged too, and muon"),
        ("run_name", 3, "text"),
        ("sample_prompts", 3, "a list of texts"),
        ("save_total_limit", None, "a number"),
    ],
)
def test_a_value_that_does_not_fit_is_told_with_one_that_does(
    name: str, text: object, need: str
) -> None:
    refusal = refused(Given(name, text, "run.yaml:3:5"))
    assert refusal.what.startswith(f"run.yaml:3:5: {name}: ")
    assert refusal.need == need
    (line,) = tries(refusal)
    ours, _, value = line.partition(": ")
    resolve([Given(ours, value, "you")])


def test_a_word_that_is_not_utf8_is_refused_with_the_folder_to_type() -> None:
    check_utf8(["train", "straße.txt", "--lr", "1e-3"])
    name = b"data/\xff.txt".decode(errors="surrogateescape")
    with pytest.raises(UsageError, match="is not UTF-8") as caught:
        check_utf8(["train", name])
    assert caught.value.have == r"the bytes b'data/\xff.txt'"
    assert caught.value.remedies[0].do == "headway train data"
    with pytest.raises(UsageError) as caught:
        check_utf8([name.removeprefix("data/")])
    assert caught.value.remedies[0].do == "headway train ."


def test_a_working_folder_that_was_removed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    assert working_folder() == str(gone)
    gone.rmdir()
    with pytest.raises(UsageError, match="no longer exists"):
        working_folder()
