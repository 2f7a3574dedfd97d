"""ExportProbes come from the tokenizer alone, and fit any model."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.export.folders import model_folder

from headway.data.examples import tokenizer as tokenizers
from headway.export.hf.probes import NASTY_TEXT, logits_of, loss_of, make_probes
from headway.model.load import from_folder


def test_they_have_a_text_a_chat_and_chance(tmp_path: Path) -> None:
    tokenizer = tokenizers.load(model_folder(tmp_path / "model"))
    probes = make_probes(tokenizer, 259, 256)
    assert len(probes.rows) == 3
    assert probes.chat is not None
    assert "And of Italy" in probes.chat
    assert probes == make_probes(tokenizer, 259, 256), "the same each time"
    assert tokenizer.decode(tokenizer.encode([NASTY_TEXT])[0]) == NASTY_TEXT


@pytest.mark.parametrize(("rows", "context"), [(259, 2), (40, 256), (259, 0), (3, 256)])
def test_ids_and_lengths_fit_the_model(tmp_path: Path, rows: int, context: int) -> None:
    tokenizer = tokenizers.load(model_folder(tmp_path / "model", chat=False))
    probes = make_probes(tokenizer, rows, context)
    assert probes.chat is None
    assert all(0 <= one < rows for row in probes.rows for one in row)
    assert all(2 <= len(row) <= (context or 256) for row in probes.rows)
    assert probes.rows


def test_the_loss_is_that_of_each_row_s_next_tokens(tmp_path: Path) -> None:
    model: Any = from_folder(model_folder(tmp_path / "model"), trust_remote_code=False).eval()
    rows = ((5, 6, 7, 8), (9, 10))
    logits = logits_of(model, rows)
    assert logits.shape == (6, 259)
    with torch.no_grad():
        wanted = [model(torch.tensor([row]), labels=torch.tensor([row])).loss for row in rows]
    expected = (3 * float(wanted[0]) + float(wanted[1])) / 4
    assert loss_of(logits, rows) == pytest.approx(expected, rel=1e-6)
