"""The model card has the receipt's facts, and nothing that a name could smuggle in."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.export.folders import model_folder
from tests.ui.fixtures import conversations_plan, receipt

from headway.base.pulse import Pulse
from headway.export.hf.card import FILE, write_card
from headway.export.request import BaseModel, ExportOptions, ExportRequest
from headway.export.source import ExportSource, open_source


@pytest.fixture
def source(tmp_path: Path) -> ExportSource:
    folder = model_folder(tmp_path / "runs" / "support-b" / "checkpoint-4976")
    request = ExportRequest(str(folder), "out", ExportOptions("hf", name="support-b"))
    return open_source(request, tmp_path, Pulse())


def card(source: ExportSource, folder: Path, **changes: Any) -> str:
    write_card(replace(source, **changes), "float32", folder, merged=True)
    return (folder / FILE).read_text()


def test_a_run_s_receipt_is_in_its_card(tmp_path: Path, source: ExportSource) -> None:
    run = source.folder.parent
    conversations_plan().save(run)
    receipt().save(run)
    text = card(source, tmp_path, run=run)
    for part in ("| contract | kept |", "support-b.jsonl", "`<|im_end|>` (2)", "float32"):
        assert part in text
    assert str(tmp_path) not in text, "a card is published"


def test_a_receipt_of_other_weights_is_left_out(tmp_path: Path, source: ExportSource) -> None:
    run = source.folder.parent
    conversations_plan().save(run)
    proof = receipt()
    assert proof.checkpoint is not None
    replace(proof, checkpoint=replace(proof.checkpoint, name="checkpoint-10")).save(run)
    assert "no receipt for these weights" in card(source, tmp_path, run=run)


def test_names_are_only_text(tmp_path: Path, source: ExportSource) -> None:
    evil = "evil\n---\nlicense: mit\n[click](javascript:alert(1)) <script>"
    text = card(source, tmp_path, name=evil, base=BaseModel("a/" + evil, "/b", "ab" * 32))
    header = text.split("---\n")[1]
    assert [line.split(":")[0] for line in header.splitlines()] == [
        *("library_name", "base_model", "pipeline_tag", "tags", "- headway"),
    ]
    assert "<script>" not in text
    assert "](" not in text
