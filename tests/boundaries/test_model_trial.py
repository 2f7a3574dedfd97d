"""Models that cannot run packed train one document at a time, and it is told why."""

from pathlib import Path
from typing import Any

import pytest
from tests.boundaries.ends import end_of
from tests.helpers import byte_level, causal, folder_start, plan_of, run, text_store

from headway.base.errors import Cause
from headway.base.events import Noted

NEO = {"num_layers": 2, "num_heads": 2, "attention_types": [[["global", "local"], 1]]}
KINDS: dict[str, dict[str, Any]] = {
    "stablelm": {},
    "nemotron": {},
    "gpt_neo": {**NEO, "window_size": 8, "max_position_embeddings": 32},
}


def save(kind: str, folder: Path, **config: Any) -> Path:
    causal(kind, scale=1.0, **config).save_pretrained(folder)
    byte_level().save(folder)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_it_trains_to_the_end_and_says_how(kind: str, tmp_path: Path) -> None:
    folder = save(kind, tmp_path / kind, **KINDS[kind])
    store = text_store(tmp_path / "store", *[25] * 16)
    given = {"max_length": 32, "batch_size": 8, "max_steps": 2}  # a row packs two documents
    ran = run(tmp_path / "run", plan_of(store, folder_start(folder), **given))
    assert ran.code == 0
    assert ran.receipt.contract.verdict == "kept"
    (told,) = [
        one.finding for one in ran.of(Noted) if one.finding.what.startswith("documents run one")
    ]
    assert told.what == "documents run one at a time: this model cannot compute several in a row"
    assert "attention" in told.have


def test_a_mixture_with_a_router_loss_is_refused_at_the_plan(chats: Path, tmp_path: Path) -> None:
    few = {"num_local_experts": 4, "num_experts_per_tok": 2}
    plain = save("mixtral", tmp_path / "plain", **few)
    assert end_of(chats, plain, tmp_path).code == 0
    asking = save("mixtral", tmp_path / "asking", **few, output_router_logits=True)
    end = end_of(chats, asking, tmp_path)
    assert end.refusal is not None
    assert end.refusal.cause == Cause.MODEL_UNSUPPORTED
    assert end.is_told("config.json")
