"""Every setting has an example, a help text, one meaning per spelling, and a valid default."""

from dataclasses import replace

import pytest

from headway.config.resolve import resolve
from headway.config.settings import (
    Given,
    Settings,
    example,
    is_flag,
    normalize,
    printed_name,
    spellings,
    table,
)
from headway.config.yaml_file import write_settings

ROWS = {printed_name(row): row for row in table()}


def asked(**settings: object) -> Settings:
    return resolve([Given(name, value, "you") for name, value in settings.items()])


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
    assert spellings()[normalize(alias)].name == name


def test_no_spelling_means_two_settings() -> None:
    names = [
        name for row in table() for name in {row.name, printed_name(row), *row.metadata["also"]}
    ]
    assert len(names) == len(set(names))


def test_hyphens_and_underscores_are_one_name() -> None:
    for spelling in ("max_length", "max-length", "--max-length", "--max_length"):
        assert resolve([Given(spelling, "64", "--x")]).max_length == 64


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


def test_f62_settings_are_shown_and_saved_without_credentials() -> None:
    endpoint = "http://user:canary@h:9000/?X-Amz-Signature=canary"
    given = [
        Given("endpoint_url", endpoint, "you"),
        Given("model", "https://user:canary@h/model", "you"),
    ]
    settings = resolve(given)
    assert settings.endpoint_url == endpoint
    shown = {name: value for name, value, _ in settings.items()}
    assert (shown["endpoint_url"], shown["model"]) == ("http://h:9000/", "https://h/model")
    assert "canary" not in write_settings(settings)


@pytest.mark.parametrize(
    "name", ["save_steps", "eval_steps", "sample_steps", "batch_tokens", "vocab_size", "val_size"]
)
def test_an_example_is_one_that_a_person_would_use(name: str) -> None:
    row = spellings()[name]
    assert float(example(row)) > (row.metadata["at_least"] or 0)
