"""OpenAI's own client talks to llama.cpp's server with an exported file."""

from collections.abc import Iterator

import openai
import pytest
from tests.export.models import model_folder, source_of

from headway.base.pulse import Pulse
from headway.export.gguf.plan import file_name
from headway.export.request import ExportOptions
from headway.export.targets.gguf import GgufTarget
from headway.export.verify.llama_cpp import LlamaCpp, running

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaCpp]:
    place = tmp_path_factory.mktemp("served")
    source = source_of(model_folder(place / "model"), place / "scratch")
    options = ExportOptions("gguf", quantize="q8_0")
    GgufTarget().write(source, options, place, Pulse())
    with running(place / file_name(options), 512) as llama:
        yield llama


@pytest.fixture
def client(server: LlamaCpp) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.address}/v1", api_key=server.key) as client:
        yield client


def test_a_chat_completion(client: openai.OpenAI, server: LlamaCpp) -> None:
    found = client.chat.completions.create(
        model="any", messages=QUESTION, max_tokens=12, temperature=0
    )
    assert found.choices[0].finish_reason in ("length", "stop")
    assert found.usage is not None
    assert found.usage.prompt_tokens == len(server.tokens(server.render(QUESTION), begin=True))
    assert 0 < found.usage.completion_tokens <= 12


def test_a_stream_has_the_same_answer(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(
        model="any", messages=QUESTION, max_tokens=12, temperature=0
    )
    pieces = client.chat.completions.create(
        model="any", messages=QUESTION, max_tokens=12, temperature=0, stream=True
    )
    texts, reasons = [], []
    for piece in pieces:
        for choice in piece.choices:
            texts.append(choice.delta.content or "")
            reasons.append(choice.finish_reason)
    assert len(texts) > 2
    assert "".join(texts) == whole.choices[0].message.content
    assert reasons[-1] == whole.choices[0].finish_reason


def test_nobody_is_served_without_the_key(server: LlamaCpp) -> None:
    with (
        openai.OpenAI(base_url=f"{server.address}/v1", api_key="another", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.chat.completions.create(model="any", messages=QUESTION, max_tokens=1)
