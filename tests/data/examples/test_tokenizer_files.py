"""What is read from a tokenizer's files is checked; the campaign tries the rest."""

import json
from pathlib import Path
from typing import Any

import pytest

from headway.base.errors import Cause, UsageError
from headway.data.examples.tokenizer_files import (
    chat_templates,
    context_length,
    read_end_ids,
    read_files,
    special_tokens,
)


def files(**objects: Any) -> dict[str, bytes]:
    return {f"{name}.json": json.dumps(value).encode() for name, value in objects.items()}


def test_special_tokens_are_text_or_objects_with_content() -> None:
    config = {"eos_token": {"content": "</s>", "special": True}, "pad_token": None}
    found = special_tokens(
        files(tokenizer_config=config, special_tokens_map={"eos_token": "x", "bos_token": "<s>"}),
        "here",
    )
    assert found == {"eos_token": "</s>", "bos_token": "<s>"}


@pytest.mark.parametrize("value", [["a"], 5, {"a": 1}, {"content": ["a"]}])
def test_a_special_token_that_is_something_else_is_refused(value: Any) -> None:
    with pytest.raises(UsageError, match=r"here: cannot read tokenizer_config\.json") as caught:
        special_tokens(files(tokenizer_config={"eos_token": value}), "here")
    assert caught.value.have == f"eos_token is {value!r}, which is not text"
    assert caught.value.cause == Cause.TOKENIZER_INVALID


@pytest.mark.parametrize(
    ("given", "default", "tools"),
    [
        (None, None, None),
        ("a", "a", None),
        ({"default": "a", "tool_use": "b"}, "a", "b"),
        ([{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}], "a", "b"),
    ],
)
def test_templates_by_use(given: Any, default: str | None, tools: str | None) -> None:
    found = chat_templates({}, {"chat_template": given}, "here")
    assert (found.default, found.tools) == (default, tools)
    found = chat_templates({"chat_template.jinja": b"c"}, {"chat_template": given}, "here")
    assert (found.default, found.tools, found.file) == ("c", None, "chat_template.jinja")


@pytest.mark.parametrize("given", [5, ["a"], [{"a": 1}], [{"name": "default", "template": 5}]])
def test_templates_that_are_something_else_are_refused(given: Any) -> None:
    with pytest.raises(UsageError, match=r"cannot read tokenizer_config\.json"):
        chat_templates({}, {"chat_template": given}, "here")


@pytest.mark.parametrize(
    ("limit", "length"),
    [(512, 512), (512.0, 512), (1e30, None), (-5, None), (0, None), ("x", None), (True, None)],
)
def test_a_context_is_a_number_of_tokens(limit: Any, length: int | None) -> None:
    assert context_length({"model_max_length": limit}) == length


def test_the_ids_that_end_an_answer_are_numbers(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"eos_token_id": [3, -1, 99999999999]}')
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": 2}')
    assert read_end_ids(tmp_path) == [2, 3]
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": {"a": 1}}')
    with pytest.raises(UsageError, match=r"cannot read generation_config\.json"):
        read_end_ids(tmp_path)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no tokenizer\.json"):
        read_files(tmp_path)
