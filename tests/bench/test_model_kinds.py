"""Kinds of models: losses are transformers' own, packed or one document at a time, or refused.

docs/models.md is made from what these tests saw.
"""

import importlib
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"
PACKED, ALONE = "packed", "one at a time"
# An attention of their own, arguments that ours does not compute, or state along the row.
RUN_ALONE = frozenset(
    {
        "bamba",
        "bart",
        "blenderbot",
        "bloom",
        "codegen",
        "falcon",
        "falcon_h1",
        "gpt_neo",
        "gpt_neox_japanese",
        "gptj",
        "granitemoehybrid",
        "jamba",
        "lfm2",
        "mamba",
        "mamba2",
        "marian",
        "minimax",
        "mpt",
        "nemotron",
        "nemotron_h",
        "openai-gpt",
        "pegasus",
        "qwen3_5_text",
        "qwen3_next",
        "recurrent_gemma",
        "rwkv",
        "stablelm",
        "trocr",
        "xglm",
        "xlstm",
        "zamba2",
    }
)
ENCODERS = frozenset({"bert", "camembert", "cpmant", "electra", "roberta", "xlnet"})


def module() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCH)
        return importlib.import_module("model_kinds")


KINDS: Any = module()
COMPARED = sorted(KINDS.KINDS.keys() - ENCODERS)


@pytest.mark.parametrize("kind", COMPARED)
def test_the_loss_is_transformers_own(kind: str, request: pytest.FixtureRequest) -> None:
    found = KINDS.compare(kind, **KINDS.KINDS[kind])
    assert (found.result, found.runs) == ("equal", ALONE if kind in RUN_ALONE else PACKED), found
    request.node.user_properties.append(("kind", kind))
    request.node.user_properties.append(("runs", found.runs))


@pytest.mark.parametrize("kind", sorted(ENCODERS))
def test_an_encoder_is_refused(kind: str, request: pytest.FixtureRequest) -> None:
    found = KINDS.compare(kind, **KINDS.KINDS[kind])
    why = f"{kind} sees the tokens that it should predict"
    assert (found.result, found.why) == ("refused", why)
    request.node.user_properties.append(("kind", kind))
    request.node.user_properties.append(("runs", "refused"))


def test_at_least_59_kinds_are_compared() -> None:
    assert len(COMPARED) >= 59
    assert set(COMPARED) >= RUN_ALONE | {"llama", "mistral", "gpt2", "gemma2", "qwen3"}


def test_a_loss_that_differs_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = KINDS.Forward.loss
    monkeypatch.setattr(KINDS.Forward, "loss", lambda self, micro, num: real(self, micro, num + 1))
    assert KINDS.compare("llama").result == "different"
