"""A Modelfile says where answers end, and has a template only where the file has none."""

from typing import Any

import pytest

from headway.base.errors import Cause, UsageError
from headway.export.ollama.modelfile import check_model_name, modelfile_of

GIVEN: dict[str, Any] = {
    "end_tokens": ["<|im_end|>", "<|endoftext|>"],
    "context": 32768,
    "has_template": True,
}


def test_the_file_of_a_chat_model() -> None:
    assert modelfile_of("a-q8_0.gguf", **GIVEN).text() == (
        "FROM ./a-q8_0.gguf\n"
        "PARAMETER num_ctx 8192\n"
        'PARAMETER stop "<|im_end|>"\n'
        'PARAMETER stop "<|endoftext|>"\n'
    )


def test_the_file_of_a_text_model_has_a_plain_template() -> None:
    text = modelfile_of("a.gguf", **GIVEN | {"has_template": False}).text()
    assert 'TEMPLATE "{{ .Prompt }}"\n' in text


def test_instructions_keep_their_lines_and_quotes() -> None:
    text = modelfile_of("a.gguf", system='Say "yes".\nNothing else.', num_ctx=512, **GIVEN).text()
    assert 'SYSTEM """Say "yes".\nNothing else."""\nPARAMETER num_ctx 512\n' in text


def test_an_end_token_that_text_cannot_hold_is_no_stop() -> None:
    assert modelfile_of("a.gguf", **GIVEN | {"end_tokens": ["", " ", "</s>", "</s>"]}).stops == (
        "</s>",
    )


@pytest.mark.parametrize(
    ("given", "cause", "remedy"),
    [
        ({"num_ctx": 40000}, Cause.INVALID_VALUE, "--num-ctx 32768"),
        ({"system": 'a """ b'}, Cause.INVALID_VALUE, "leave out --system"),
        ({"system": "a", "has_template": False}, Cause.CONTRADICTION, "leave out --system"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, Any], cause: Cause, remedy: str) -> None:
    with pytest.raises(UsageError) as caught:
        modelfile_of("a.gguf", **GIVEN | given)
    assert caught.value.cause is cause
    assert caught.value.remedies[0].do == remedy


@pytest.mark.parametrize("name", ["mill", "my-model.v2", "_a", "a" * 80])
def test_names_that_ollama_takes(name: str) -> None:
    assert check_model_name(name) == name


@pytest.mark.parametrize(
    ("name", "better"),
    [
        ("my model", "--name my-model"),
        ("a+b", "--name a-b"),
        ("../x", "--name x"),
        ("-a", "--name a"),
        ("a" * 81, "--name " + "a" * 80),
        ("é", "--name my-model"),
    ],
)
def test_other_names_are_refused_with_one_that_works(name: str, better: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_model_name(name)
    assert caught.value.remedies[0].do == better
    check_model_name(better.removeprefix("--name "))
