"""Each comparison passes what is the same, and says where something differs."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from tests.export.models import trained_tokenizer

from headway.export.gguf.splits import Splits
from headway.export.verify.checks import (
    LIMITS,
    POSITIONS,
    CheckOutcome,
    Difference,
    compare_chats,
    compare_ends,
    compare_probabilities,
    compare_reply,
    compare_template,
    compare_tokens,
    probe,
    probe_ids,
)
from headway.export.verify.llama_cpp import ChatReply, Continuation, LlamaCppError
from headway.export.verify.reference import Reference

WORDS = trained_tokenizer()
END = WORDS.end_id
PLAIN = Splits("gpt2", "gpt-2")


class Model(torch.nn.Module):
    """Says the same after each token: its logits depend on the token alone."""

    def __init__(self, size: float = 1.0) -> None:
        super().__init__()
        draws = torch.Generator().manual_seed(0)
        self.table = size * torch.randn(WORDS.vocab_size, WORDS.vocab_size, generator=draws)

    def forward(self, ids: torch.Tensor) -> Any:
        return type("Output", (), {"logits": self.table[ids]})()


REFERENCE = Reference(Model(), WORDS, begins=False)


class Llama:
    """What llama.cpp does, if nothing is wrong; a test makes something else of it."""

    def __init__(self, **changes: Any) -> None:
        self.changes = changes
        for name, function in changes.items():
            setattr(self, name, function)

    def tokens(self, text: str, *, begin: bool = False) -> list[int]:
        return REFERENCE.tokens(text)

    def render(self, messages: Sequence[Any]) -> str:
        return REFERENCE.render(messages) or ""

    def chat(self, messages: Sequence[Any], num_tokens: int) -> ChatReply:
        return ChatReply("Paris.", True, len(REFERENCE.tokens(self.render(messages))))

    def complete(
        self, ids: Sequence[int], num_tokens: int, *, top: int = 1, force: int | None = None
    ) -> Continuation:
        best = REFERENCE.log_probabilities(ids, len(ids) - 1)[0].topk(top)
        chances = dict(zip(best.indices.tolist(), best.values.tolist(), strict=True))
        return Continuation((force or 5,), force == END, chances)


def compared_probabilities(
    llama: Any, reference: Reference, ids: Sequence[int], quantize: str
) -> list[CheckOutcome]:
    return compare_probabilities(probe(llama, reference, ids), reference, quantize)


def outcomes(compared: Any) -> list[Difference | None]:
    return [one.difference for one in (compared if isinstance(compared, list) else [compared])]


def test_everything_is_the_same() -> None:
    llama: Any = Llama()
    ids = probe_ids(REFERENCE, 512)
    compared = [
        *compare_tokens(llama, REFERENCE, PLAIN),
        *compare_template(WORDS.chat_template, REFERENCE),
        *compare_chats(llama, REFERENCE, 512),
        compare_ends(llama, REFERENCE, [END]),
        *compared_probabilities(llama, REFERENCE, ids, "f32"),
        *compare_reply(llama, REFERENCE, [END]),
    ]
    assert outcomes(compared) == [None] * 10
    assert all(one.check.passed for one in compared)
    assert len(ids) == 32 + POSITIONS


def test_the_text_whose_tokens_differ_is_shown() -> None:
    llama: Any = Llama(
        tokens=lambda text, begin=False: [
            one + (one == 20 and not begin) for one in REFERENCE.tokens(text)
        ]
    )
    found = compare_tokens(llama, REFERENCE, PLAIN)
    assert outcomes(found) == [Difference.TOKENS, None]
    assert "from token" in found[0].check.detail


def test_what_comes_before_a_text_is_compared() -> None:
    llama: Any = Llama(tokens=lambda text, begin=False: [0] * begin + REFERENCE.tokens(text))
    assert outcomes(compare_tokens(llama, REFERENCE, PLAIN)) == [None, Difference.BEGINNING]
    found = compare_chats(llama, REFERENCE, 512)
    assert outcomes(found) == [None, Difference.CHAT_TOKENS]


@pytest.mark.parametrize(("stored", "word"), [(None, "none"), ("other", "another")])
def test_the_template_in_the_file(stored: str | None, word: str) -> None:
    (found,) = compare_template(stored, REFERENCE)
    assert found.difference is Difference.TEMPLATE
    assert word in found.check.detail


def test_a_text_model_needs_no_template() -> None:
    plain = Reference(Model(), trained_tokenizer(chat=False), begins=False)
    assert compare_template(None, plain) == []
    assert compare_chats(Llama(), plain, 512) == []  # type: ignore[arg-type]
    assert compare_reply(Llama(), plain, [END]) == []  # type: ignore[arg-type]
    assert outcomes(compare_template("a", plain)) == [Difference.TEMPLATE]


def fails(*_: Any) -> str:
    raise LlamaCppError("no filter named 'odd'")


@pytest.mark.parametrize("render", [fails, lambda messages: "another text"])
def test_a_chat_that_is_rendered_otherwise(render: Any) -> None:
    found = compare_chats(Llama(render=render), REFERENCE, 512)  # type: ignore[arg-type]
    assert found[0].difference is Difference.TEMPLATE
    assert found[0].check.detail.startswith("0 of 4")


def test_a_chat_that_has_more_tokens_in_its_server() -> None:
    llama: Any = Llama(chat=lambda messages, num: ChatReply("", True, 1))
    assert outcomes(compare_chats(llama, REFERENCE, 512)) == [None, Difference.CHAT_TOKENS]


def test_an_end_token_that_ends_nothing_is_named() -> None:
    found = compare_ends(Llama(), REFERENCE, [END, 40])  # type: ignore[arg-type]
    assert found.difference is Difference.ENDS
    assert "id 40" in found.check.detail


def shifted(
    by: float, reference: Reference = REFERENCE, *, only: int = 0, swap: bool = False
) -> Any:
    """llama.cpp with other log-probabilities.

    Args:
        by: so much more.
        reference: than this one's.
        only: at this position; 0 for all of them.
        swap: the first two change places.
    """

    def complete(ids: Sequence[int], num: int, *, top: int = 1, force: int | None = None) -> Any:
        best = reference.log_probabilities(ids, len(ids) - 1)[0].topk(top)
        chances = list(zip(best.indices.tolist(), best.values.tolist(), strict=True))
        if swap:
            chances[:2] = chances[1::-1]
        if only in (0, len(ids)):
            chances = [(token, chance + by) for token, chance in chances]
        return Continuation((5,), False, dict(chances))

    return Llama(complete=complete)


@pytest.mark.parametrize("quantize", LIMITS)
def test_log_probabilities_beyond_the_limit(quantize: str) -> None:
    sure = Reference(Model(size=60.0), WORDS, begins=False)  # one token has all of the probability
    ids, limit = probe_ids(sure, 512), LIMITS[quantize]
    close = compared_probabilities(shifted(0.9 * limit, sure), sure, ids, quantize)
    assert outcomes(close) == [None, None, None]
    far = compared_probabilities(shifted(1.1 * limit, sure), sure, ids, quantize)
    assert far[0].difference is Difference.PROBABILITIES
    assert far[0].check.measured == pytest.approx(1.1 * limit, rel=0.05)


@pytest.mark.parametrize(("quantize", "times"), [("f32", 1), ("f16", 20), ("q4_k_m", 20)])
def test_one_position_that_is_far_off(quantize: str, times: float) -> None:
    ids, limit = probe_ids(REFERENCE, 512), LIMITS[quantize] * times
    close = compared_probabilities(shifted(0.9 * limit, only=60), REFERENCE, ids, quantize)
    assert outcomes(close) == [None, None, None]
    for by in (1.1 * limit, float("nan")):
        far = compared_probabilities(shifted(by, only=60), REFERENCE, ids, quantize)
        assert far[1].difference is Difference.PROBABILITIES
        assert "after token 60" in far[0].check.detail


def test_unlikely_tokens_count_less() -> None:
    """All but the first choice are far off, and the first has almost all of the probability."""
    sure = Reference(Model(size=60.0), WORDS, begins=False)

    def complete(ids: Sequence[int], num: int, *, top: int = 1, force: int | None = None) -> Any:
        best = sure.log_probabilities(ids, len(ids) - 1)[0].topk(top)
        first, *others = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        chances = dict([first, *((token, chance - 0.03) for token, chance in others)])
        return Continuation((5,), False, chances)

    ids = probe_ids(sure, 512)
    found = compared_probabilities(Llama(complete=complete), sure, ids, "f16")
    assert outcomes(found) == [None, None, None]
    assert found[1].check.measured == pytest.approx(0.03, rel=1e-3)


def test_another_first_choice() -> None:
    ids = probe_ids(REFERENCE, 512)
    found = compared_probabilities(shifted(0.0, swap=True), REFERENCE, ids, "f32")
    assert outcomes(found) == [None, None, Difference.PROBABILITIES]


def test_an_answer_that_goes_on_where_pytorch_ends_it() -> None:
    model = Model()
    model.table[:, END] = 100.0
    ending = Reference(model, WORDS, begins=False)
    llama: Any = Llama()
    (found,) = compare_reply(llama, REFERENCE, [END])
    assert found.difference is None
    assert "neither" in found.check.detail
    (found,) = compare_reply(llama, ending, [END])
    assert found.difference is Difference.REPLY
    assert "after 0 tokens" in found.check.detail


def test_an_answer_that_ends_is_shown() -> None:
    written = Continuation((*WORDS.encode(["Paris."])[0].tolist(), END), True, {})
    llama: Any = Llama(complete=lambda *_, **__: written)
    (found,) = compare_reply(llama, REFERENCE, [END])
    assert found.difference is None
    assert found.check.detail == "Paris."
