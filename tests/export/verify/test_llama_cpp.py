"""llama.cpp in a process of its own: what it is asked, and what it cannot load."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.export.models import model_folder, source_of

from headway.base.pulse import Pulse
from headway.data.examples.tokenizer import TURN_END
from headway.export.gguf.plan import file_name
from headway.export.request import ExportOptions
from headway.export.targets.gguf import GgufTarget
from headway.export.verify.llama_cpp import LlamaCpp, LlamaCppError, ask, running

QUESTION = [{"role": "user", "content": "Hi"}]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("file")
    source, options = source_of(model_folder(place / "a"), place / "s"), ExportOptions("gguf")
    GgufTarget().write(source, options, place, Pulse())
    return place / file_name(options)


@pytest.fixture(scope="module")
def llama(file: Path) -> Iterator[LlamaCpp]:
    with running(file, 256) as llama:
        yield llama


def test_its_probabilities_are_those_before_anything_is_chosen(llama: LlamaCpp) -> None:
    ids = llama.tokens("Hello world")
    free, forced = llama.complete(ids, 1, top=5), llama.complete(ids, 1, top=5, force=ids[0])
    assert forced.ids == (ids[0],)
    assert list(forced.top) == list(free.top)
    assert len(free.top) == 5
    assert list(free.top.values()) == sorted(free.top.values(), reverse=True)
    assert max(free.top.values()) < 0


def test_only_an_end_token_ends_an_answer(llama: LlamaCpp) -> None:
    ids = llama.tokens("Hello world")
    (end,) = llama.tokens(TURN_END)
    assert llama.complete(ids, 3, force=end).ended
    assert not llama.complete(ids, 3, force=ids[0]).ended


def test_a_chat(llama: LlamaCpp) -> None:
    rendered = llama.render(QUESTION)
    assert rendered.startswith("<|im_start|>user\nHi<|im_end|>")
    assert llama.chat(QUESTION, 2).num_prompt_tokens == len(llama.tokens(rendered, begin=True))


def test_each_question_is_a_chat_of_its_own(llama: LlamaCpp, file: Path) -> None:
    questions, done = ("Hi", "Hello world", "Hi"), list[int]()
    replies = ask(file, questions, 3, done.append)
    alone = [llama.chat([{"role": "user", "content": one}], 3) for one in questions]
    assert list(replies) == alone
    assert replies[0] == replies[2] != replies[1]
    assert done == sorted(done)
    assert done[-1] == 3


def test_what_it_refuses_is_said(llama: LlamaCpp) -> None:
    with pytest.raises(LlamaCppError, match="context"):
        llama.complete([5] * 500, 1)


@pytest.mark.parametrize("num", [0, 100, 3000])
def test_a_file_that_is_cut_short(num: int, file: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.gguf"
    short.write_bytes(file.read_bytes()[:num])
    with pytest.raises(LlamaCppError) as caught, running(short, 256):
        pass
    assert str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_its_process_is_gone_behind_the_block(file: Path) -> None:
    waits: list[None] = []
    with running(file, 64, lambda: waits.append(None)) as llama:
        assert llama.tokens("a")
    assert waits
    with pytest.raises(LlamaCppError):
        llama.tokens("a")
