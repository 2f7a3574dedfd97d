"""A model is made in the Ollama that runs, and asked; elsewhere the commands are said."""

from pathlib import Path

import pytest
from tests.export.ollama.stand_in import stand_in

from headway.base.errors import Cause
from headway.export.ollama.create import QUESTION, create_in_ollama
from headway.export.ollama.modelfile import Modelfile

MODELFILE = Modelfile("a-f16.gguf", ("<|im_end|>", '"quoted"'), 2048, system="Be kind.")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a-f16.gguf").write_bytes(b"GGUF" + bytes(range(256)) * 9000)
    return tmp_path


def test_the_model_is_created_and_asked(folder: Path) -> None:
    sent: list[int] = []
    with stand_in() as server:
        found = create_in_ollama(folder, "mill", MODELFILE, server.address, sent.append)
    assert found.created
    assert found.finding.kind == "ok"
    assert "Paris." in found.finding.have
    assert found.finding.remedies[0].do == "ollama run mill"
    content = (folder / "a-f16.gguf").read_bytes()
    assert list(server.blobs.values()) == [content]
    assert sent[-1] == len(content)
    assert server.models["mill"] == {
        "model": "mill",
        "files": {"a-f16.gguf": next(iter(server.blobs))},
        "parameters": {"num_ctx": 2048, "stop": ["<|im_end|>", '"quoted"']},
        "system": "Be kind.",
        "stream": False,
    }
    assert server.chats[0]["messages"] == [{"role": "user", "content": QUESTION}]
    assert server.chats[0]["options"]["temperature"] == 0


def test_a_file_that_is_there_is_not_sent_again(folder: Path) -> None:
    sent: list[int] = []
    with stand_in() as server:
        create_in_ollama(folder, "mill", MODELFILE, server.address)
        assert create_in_ollama(folder, "other", MODELFILE, server.address, sent.append).created
    assert sent == []
    assert sorted(server.models) == ["mill", "other"]


def test_a_text_model_brings_its_plain_template(folder: Path) -> None:
    plain = Modelfile("a-f16.gguf", (), 512, template="{{ .Prompt }}")
    with stand_in() as server:
        assert create_in_ollama(folder, "mill", plain, server.address).created
    assert server.models["mill"]["template"] == "{{ .Prompt }}"
    assert "system" not in server.models["mill"]


def test_an_answer_that_goes_on_is_a_warning(folder: Path) -> None:
    with stand_in() as server:
        server.done_reason = "length"
        found = create_in_ollama(folder, "mill", MODELFILE, server.address)
    assert found.created
    assert found.finding.kind == "warning"
    assert found.finding.cause is Cause.NOT_LEARNED


@pytest.mark.parametrize("path", ["/api/blobs", "/api/create", "/api/chat"])
def test_what_ollama_refuses_is_said_with_the_commands(path: str, folder: Path) -> None:
    with stand_in() as server:
        server.refuses = path
        found = create_in_ollama(folder, "mill", MODELFILE, server.address)
    assert not found.created
    assert found.finding.cause is Cause.BAD_ANSWER
    assert "500" in found.finding.have
    assert found.finding.remedies[0].do == f"ollama create mill -f {folder / 'Modelfile'}"


def test_without_ollama_the_commands_are_said(folder: Path) -> None:
    with stand_in() as server:
        address = server.address
    found = create_in_ollama(folder, "mill", MODELFILE, address)
    assert not found.created
    assert found.finding.kind == "ok"
    assert [remedy.do for remedy in found.finding.remedies] == [
        f"ollama create mill -f {folder / 'Modelfile'}",
        "ollama run mill",
    ]
