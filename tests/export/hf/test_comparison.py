"""A comparison passes what is equal, and names what is not."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.export.folders import DOCUMENT_END, TURN_END, model_folder

from headway.base.errors import Cause
from headway.data.examples import tokenizer as tokenizers
from headway.export.hf.comparison import Trained, compare
from headway.export.hf.probes import NASTY_TEXT, ExportProbes, loss_of
from headway.export.hf.reload import Reloaded
from headway.export.request import ExportVerification

ROWS = ((5, 6, 7), (8, 9))
LOGITS = torch.randn(5, 20, generator=torch.Generator().manual_seed(0)) * 4


@pytest.fixture
def trained(tmp_path: Path) -> Trained:
    tokenizer = tokenizers.load(model_folder(tmp_path / "model"))
    return Trained(LOGITS, LOGITS - 1, (TURN_END, DOCUMENT_END), tokenizer)


def compared(
    trained: Trained, logits: torch.Tensor = LOGITS, quantize: str = "f32", **changes: Any
) -> ExportVerification:
    ids = tuple(trained.tokenizer.encode([NASTY_TEXT])[0].tolist())
    loss = loss_of(logits, ROWS)
    found = Reloaded(loss, ids, "a chat", (DOCUMENT_END, TURN_END, 7), "5.23")
    probes = ExportProbes(ROWS, "a chat")
    return compare(probes, trained, replace(found, **changes), logits, quantize)


def test_the_same_answers_pass(trained: Trained) -> None:
    found = compared(trained)
    assert found.failure is None
    assert found.findings == ()
    assert len(found.checks) == 6
    assert all(check.passed for check in found.checks)
    assert "fresh process" in found.judge


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"loss": 9.0}, "loss"),
        ({"text_ids": (1, 2, 3)}, "ids"),
        ({"chat": "another chat"}, "chat"),
        ({"end_ids": (DOCUMENT_END,)}, "end tokens"),
    ],
)
def test_what_differs_is_named(trained: Trained, changes: dict[str, Any], word: str) -> None:
    found = compared(trained, **changes)
    assert found.failure is not None
    assert found.failure.cause is Cause.EXPORT_DIFFERS
    assert [word in check.what for check in found.checks if not check.passed] == [True]
    assert found.failure.remedies


def test_logits_may_differ_as_far_as_the_format_rounds(trained: Trained) -> None:
    largest = float(LOGITS.abs().max())
    off = LOGITS.clone()
    off[2, 3] += 1.5e-5 * largest
    assert compared(trained, off).failure is None
    off[2, 3] += 1e-5 * largest
    assert compared(trained, off).failure is not None
    assert compared(trained, off, "f16").failure is None
    assert compared(trained, LOGITS * 1.02, "f16").failure is not None
    assert compared(trained, LOGITS * 1.02, "bf16").failure is None


def test_another_vocabulary_is_no_crash(trained: Trained) -> None:
    assert compared(trained, torch.randn(5, 21)).failure is not None


def test_x02_what_was_learned_must_not_be_lost_to_rounding(trained: Trained) -> None:
    close = replace(trained, base_NV=LOGITS - 0.02)
    found = compared(close, LOGITS - 0.015, "bf16")
    (lost,) = [check for check in found.checks if not check.passed]
    assert "lost" in lost.what
    assert found.failure is not None
    assert found.failure.remedies[0].do == "--quantize f32"
    assert compared(close, LOGITS - 0.005, "bf16").failure is None


def test_adapters_that_change_nothing_are_exported_with_a_warning(trained: Trained) -> None:
    found = compared(replace(trained, base_NV=LOGITS.clone()))
    assert found.failure is None
    assert [finding.cause for finding in found.findings] == [Cause.NOT_LEARNED]
    assert compared(replace(trained, base_NV=None)).findings == ()
