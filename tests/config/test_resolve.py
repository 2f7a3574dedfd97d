"""Unknown names, invalid values and contradictions: all at once, each with the line to write."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.base.errors import Cause, Problems, Refusal, UsageError
from headway.config.resolve import resolve
from headway.config.settings import Given, Settings, printed_name, table

ROWS = {printed_name(row): row for row in table()}


def asked(**settings: object) -> Settings:
    return resolve([Given(name, value, "you") for name, value in settings.items()])


def refused(*given_settings: Given) -> Refusal:
    with pytest.raises((UsageError, Problems)) as refusal:
        resolve(given_settings)
    return refusal.value


def tries(refusal: Refusal) -> list[str]:
    return [remedy.do for remedy in refusal.remedies]


def test_the_nearest_choice_is_the_remedy() -> None:
    assert tries(refused(Given("--scheduler", "x", "--scheduler")))
    refusal = refused(Given("--lr-scheduler-type", "cosin", "--lr-scheduler-type"))
    assert tries(refusal) == ["--lr-scheduler-type cosine"]


def test_a_typo_gets_the_nearest_name_on_that_very_line() -> None:
    refusal = refused(Given("max_lenght", "512", "run.yaml:3:1"))
    assert refusal.what == "run.yaml:3:1: unknown setting max_lenght"
    assert refusal.have == "max_lenght: 512"
    assert tries(refusal) == ["max_length: 512"]
    assert refusal.cause is Cause.UNKNOWN_SETTING


def test_a_typo_on_the_command_line_gets_a_line_to_type() -> None:
    refusal = refused(Given("--bacth-size", "8", "--bacth-size"))
    assert refusal.have == "--bacth-size 8"
    assert tries(refusal) == ["--batch-size 8"]
    assert tries(refused(Given("--lorra", True, "--lorra"))) == ["--lora"]


@pytest.mark.parametrize(
    ("one", "line"),
    [
        (Given("--train-on-inputs", "true", "--train-on-inputs"), "--no-assistant-only-loss"),
        (Given("--train-on-inputs", "false", "--train-on-inputs"), "--assistant-only-loss"),
        (Given("--bf16", "maybe", "--bf16"), "--bf16"),
        (Given("max_steps", "many", "max_steps="), "max_steps=100"),
        (Given("max_steps", "many", "run.yaml:2:1"), "max_steps: 100"),
        (Given("max_steps", "many", "you"), "max_steps=100"),
        (Given("max_steps", "many", "run.yaml:3:1"), "max_steps: 100"),
    ],
)
def test_a_remedy_is_written_as_the_setting_was(one: Given, line: str) -> None:
    refusal = refused(one)
    assert tries(refusal) == [line]
    assert "=: " not in refusal.what


def test_a_name_like_none_of_ours_is_sent_to_the_list() -> None:
    assert tries(refused(Given("zzz", "1", "run.yaml:1:1"))) == ["headway train --help"]


@given(st.text(max_size=15), st.text(max_size=15))
def test_any_name_and_value_is_read_or_refused_in_four_parts(name: str, value: str) -> None:
    for one in (name, *itertools.islice(ROWS, len(name), None, 11)):
        try:
            resolve([Given(one, value, "run.yaml:1:1")])
        except UsageError as error:
            refusal = error
        else:
            continue
        assert refusal.need
        assert refusal.remedies


def test_f63_all_problems_are_told_at_once() -> None:
    refusal = refused(
        Given("max_lenght", "512", "run.yaml:1:1"),
        Given("batch_size", "0", "run.yaml:2:1"),
        Given("model", "m", "run.yaml:3:1"),
        Given("preset", "tiny", "run.yaml:4:1"),
    )
    assert isinstance(refusal, Problems)
    assert [problem.cause for problem in refusal.problems] == [
        Cause.UNKNOWN_SETTING,
        Cause.INVALID_VALUE,
        Cause.CONTRADICTION,
    ]
    assert [problem.what for problem in refusal.problems] == [
        "run.yaml:1:1: unknown setting max_lenght",
        "run.yaml:2:1: batch_size: invalid value 0",
        "--model and --preset cannot be combined",
    ]


@pytest.mark.parametrize(
    "settings",
    [
        {"model": "m", "preset": "tiny"},
        {"preset": "tiny", "continue_run": "r"},
        {"batch_size": 8, "batch_tokens": 4096},
        {"lr": 1e-4, "learning_rate_multiplier": 2},
        {"batch_size": 8, "per_device_train_batch_size": 3},
        {"batch_size": 8, "gradient_accumulation_steps": 3},
        {"model": "m", "tokenizer": "t"},
        {"tokenizer": "t", "vocab_size": 1000},
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, object]) -> None:
    flags = [Given(name, value, f"--{name}") for name, value in settings.items()]
    with pytest.raises(UsageError, match="cannot be combined") as refusal:
        resolve(flags)
    assert all(line.startswith("remove --") for line in tries(refusal.value))
    with pytest.raises(UsageError, match="cannot be combined") as refusal:
        asked(**settings)  # from Python
    assert all(line.removeprefix("remove ").isidentifier() for line in tries(refusal.value))


@pytest.mark.parametrize("settings", [{"lora": True}, {"lora.r": 8}])
def test_adapters_on_random_weights_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="a new model's weights are random") as refusal:
        asked(preset="tiny", **settings)
    assert tries(refusal.value) == ["--preset tiny", "--lora --model DIR"]


@pytest.mark.parametrize(
    "settings",
    [
        {"batch_size": 8, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 4},
        {"preset": "tiny", "lora": False},
        {"model": "m", "lora.r": 8},
    ],
)
def test_settings_that_agree_are_taken(settings: dict[str, object]) -> None:
    assert len(asked(**settings).origins) >= len(settings)


def test_a_lora_setting_implies_lora_and_says_why() -> None:
    settings = resolve([Given("--lora.r", "8", "--lora.r")])
    assert settings.lora
    assert settings.lora_r == 8
    assert settings.origin("lora") == "because a lora setting is given"


def test_lora_that_was_turned_off_stays_off() -> None:
    settings = asked(**{"lora": False, "lora.r": 8})
    assert not settings.lora


def test_the_later_of_two_counts_with_its_origin() -> None:
    settings = resolve([Given("lr", "1e-3", "run.yaml:1:1"), Given("--lr", "2e-4", "--lr")])
    assert settings.learning_rate == 2e-4
    assert settings.origin("learning_rate") == "--lr"


def test_null_means_decide_for_me() -> None:
    settings = resolve([Given("lr", "1e-3", "run.yaml:1:1"), Given("lr", None, "run.yaml:2:1")])
    assert settings.learning_rate is None
    assert not settings.given("learning_rate")
