"""Kinds of models that differ most in mechanism: losses equal to transformers', or a refusal."""

import importlib
import types
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"
PACKED, ALONE = "packed", "one at a time"
SOME = {
    "bart": ALONE,  # a decoder whose forward takes neither position_ids nor logits_to_keep
    "bloom": ALONE,  # an attention of its own, with biases for distance
    "deepseek_v3": PACKED,  # latent attention, experts
    "gemma2": PACKED,  # windows, capped scores and logits
    "gpt_neo": ALONE,  # local attention, rows together longer than its context
    "gpt_oss": ALONE,  # sinks
    "mamba2": ALONE,  # state along the row
    "marian": ALONE,  # positions by a table of its own
    "mixtral": PACKED,  # experts
    "nemotron": ALONE,  # does not pass layouts on
    "phi3": PACKED,  # one matrix for queries, keys and values
    "stablelm": ALONE,
    "xlstm": ALONE,  # gives the logits of all positions
}


@pytest.fixture
def kinds(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    monkeypatch.syspath_prepend(BENCH)
    return importlib.import_module("model_kinds")


@pytest.mark.parametrize("kind", SOME)
def test_the_loss_is_transformers_own(kinds: types.ModuleType, kind: str) -> None:
    found = kinds.compare(kind, **kinds.KINDS[kind])
    assert (found.result, found.runs) == ("equal", SOME[kind]), found


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_an_encoder_is_refused(kinds: types.ModuleType, kind: str) -> None:
    found = kinds.compare(kind, **kinds.KINDS[kind])
    assert (found.result, found.why) == (
        "refused",
        f"{kind} sees the tokens that it should predict",
    )


def test_at_least_59_kinds_are_compared(kinds: types.ModuleType) -> None:
    assert len(kinds.KINDS) >= 59
    assert {"stablelm", "nemotron", "gpt_neo"} <= kinds.KINDS.keys()
