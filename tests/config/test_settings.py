"""What a person asks for: every spelling, every slip told with the line to write instead."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.base.errors import Problems, Refusal, UsageError
from headway.config.other_tools import FOREIGN, FOREIGN_VALUES
from headway.config.resolve import resolve
from headway.config.settings import (
    Given,
    Settings,
    example,
    is_flag,
    normal,
    printed_name,
    spellings,
    table,
)

ROWS = {printed_name(row): row for row in table()}


def asked(**settings: object) -> Settings:
    return resolve([Given(name, value, "you") for name, value in settings.items()])


def refused(*given_settings: Given) -> Refusal:
    with pytest.raises((UsageError, Problems)) as refusal:
        resolve(given_settings)
    return refusal.value


def tries(refusal: Refusal) -> list[str]:
    return [remedy.do for remedy in refusal.remedies]


# -- reading values


@pytest.mark.parametrize("name", ROWS)
def test_every_setting_has_an_example_that_reads_from_text(name: str) -> None:
    row = ROWS[name]
    settings = resolve([Given(name, example(row), "--x")])
    assert settings.given(row.name)
    assert getattr(settings, row.name) is not None


@pytest.mark.parametrize("name", ROWS)
def test_every_default_passes_its_own_checks(name: str) -> None:
    row = ROWS[name]
    default = getattr(Settings(), row.name)
    settings = resolve([Given(name, default, "you"), Given("lora", value=False, origin="you")])
    assert getattr(settings, row.name) == default


@pytest.mark.parametrize("name", ROWS)
def test_every_setting_is_explained(name: str) -> None:
    assert ROWS[name].metadata["help"]


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
        ("max_tokens", "5x", "a whole number like 500000 or 2M"),
        ("max_time", "soon", "a duration like 90, 10m or 1h30m"),
        ("bf16", "maybe", "true or false"),
        ("optim", "sgd", "one of adamw"),
        ("run_name", 3, "a text"),
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


def test_the_nearest_choice_is_the_remedy() -> None:
    assert tries(refused(Given("--scheduler", "x", "--scheduler")))
    refusal = refused(Given("--lr-scheduler-type", "cosin", "--lr-scheduler-type"))
    assert tries(refusal) == ["--lr-scheduler-type cosine"]


# -- names


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("--lr", "learning_rate"),
        ("bs", "batch_size"),
        ("epochs", "num_train_epochs"),
        ("seq-len", "max_length"),
        ("grad-accum", "gradient_accumulation_steps"),
        ("lora-r", "lora_r"),
        ("tokens-per-chunk", "batch_tokens"),
        ("max-chunks", "max_steps"),
        ("max-seq-length", "max_length"),
        ("continue", "continue_run"),
        ("smoke-test", "test"),
        ("Max_Length", "max_length"),
    ],
)
def test_short_names_mean_the_setting(alias: str, name: str) -> None:
    assert spellings()[normal(alias)].name == name


def test_no_spelling_means_two_settings() -> None:
    names = [
        name for row in table() for name in {row.name, printed_name(row), *row.metadata["also"]}
    ]
    assert len(names) == len(set(names))


def test_hyphens_and_underscores_are_one_name() -> None:
    for spelling in ("max_length", "max-length", "--max-length", "--max_length"):
        assert resolve([Given(spelling, "64", "--x")]).max_length == 64


def test_a_typo_gets_the_nearest_name_on_that_very_line() -> None:
    refusal = refused(Given("max_lenght", "512", "run.yaml:3:1"))
    assert refusal.what == "run.yaml:3:1: unknown setting max_lenght"
    assert refusal.have == "max_lenght: 512"
    assert tries(refusal) == ["max_length: 512"]


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
        (Given("max_steps", "many", "you"), "max_steps: 100"),
    ],
)
def test_a_remedy_is_written_as_the_setting_was(one: Given, line: str) -> None:
    refusal = refused(one)
    assert tries(refusal) == [line]
    assert "=: " not in refusal.what


def test_a_name_like_none_of_ours_is_sent_to_the_list() -> None:
    assert tries(refused(Given("zzz", "1", "run.yaml:1:1"))) == ["headway train --help"]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("cutoff_len: 512", "max_length: 512"),
        ("micro_batch_size: 2", "per_device_train_batch_size: 2"),
        ("val_set_size: 0.05", "val_size: 0.05"),
        ("model_name_or_path: models/qwen", "model: models/qwen"),
        ("num_epochs: 3", "num_train_epochs: 3"),
        ("warmup_ratio: 0.03", "warmup_steps: 0.03"),
        ("train_on_inputs: false", "assistant_only_loss: true"),
        ("adapter: lora", "lora: true"),
        ("finetuning_type: full", "lora: false"),
        ("lora_target: all", "lora.target_modules: all-linear"),
        ("precision: bf16-mixed", "bf16: true"),
        ("optimizer: adamw_torch", "optim: adamw"),
        ("lr_scheduler: linear", "lr_scheduler_type: linear"),
    ],
)
def test_a_line_of_another_tool_gets_our_spelling_of_that_line(theirs: str, ours: str) -> None:
    name, _, value = theirs.partition(": ")
    refusal = refused(Given(name, value, "run.yaml:7:1"))
    assert refusal.have == theirs
    assert refusal.need == "our name for it"
    assert tries(refusal) == [ours]


@pytest.mark.parametrize("foreign", FOREIGN)
def test_what_is_suggested_for_another_tools_line_works(foreign: str) -> None:
    assert foreign not in spellings()
    assert foreign == normal(foreign)
    for value in ("3", "true", "something", *FOREIGN_VALUES.get(foreign, {})):
        (line,) = tries(refused(Given(foreign, value, "run.yaml:1:1")))
        name, _, ours = line.partition(": ")
        resolve([Given(name, ours, "you")])


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


# -- together


def test_f63_all_problems_are_told_at_once() -> None:
    refusal = refused(
        Given("max_lenght", "512", "run.yaml:1:1"),
        Given("batch_size", "0", "run.yaml:2:1"),
        Given("model", "m", "run.yaml:3:1"),
        Given("preset", "tiny", "run.yaml:4:1"),
    )
    assert isinstance(refusal, Problems)
    assert [problem.what for problem in refusal.problems] == [
        "run.yaml:1:1: unknown setting max_lenght",
        "run.yaml:2:1: batch_size: 0 does not fit",
        "--model and --preset contradict each other",
    ]


@pytest.mark.parametrize(
    "settings",
    [
        {"model": "m", "preset": "tiny"},
        {"model": "m", "continue_run": "r"},
        {"batch_size": 8, "batch_tokens": 4096},
        {"batch_size": 8, "per_device_train_batch_size": 3},
        {"batch_size": 8, "gradient_accumulation_steps": 3},
        {"model": "m", "tokenizer": "t"},
        {"tokenizer": "t", "vocab_size": 1000},
        {"preset": "tiny", "lora": True},
        {"preset": "tiny", "lora.r": 8},
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="contradict each other") as refusal:
        asked(**settings)
    assert all(line.startswith("leave out --") for line in tries(refusal.value))


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


def test_what_was_not_given_is_a_default() -> None:
    settings = asked()
    assert settings == Settings()
    assert settings.origin("seed") == "default"
    assert not settings.given("seed")
    assert settings == replace(settings, origins={"seed": "you"})  # origins are no difference


def test_items_lists_every_setting_in_the_tables_order() -> None:
    items = asked(lr="2e-4").items()
    assert [name for name, _, _ in items] == list(ROWS)
    assert ("learning_rate", 2e-4, "you") in items


def test_only_yes_or_no_settings_are_flags() -> None:
    flags = {printed_name(row) for row in table() if is_flag(row)}
    assert {"lora", "bf16", "fresh", "exact", "test"} <= flags
    assert not {"max_length", "model", "lora.r", "truncation"} & flags
