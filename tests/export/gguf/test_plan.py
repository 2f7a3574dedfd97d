"""Everything about a file is decided, or refused, before a byte of it is written."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.export.models import model_folder, source_of

from headway.base.errors import Cause, UsageError
from headway.export.gguf.plan import file_name, plan_file
from headway.export.request import ExportOptions
from headway.export.source import ExportSource

OPTIONS = ExportOptions("gguf", quantize="q8_0", name="mill")


class Named:
    """Tensors of other names and shapes than the source has."""

    def __init__(self, source: ExportSource, **changes: Any) -> None:
        shapes = dict(source.shapes) | changes
        self.shapes = {name: shape for name, shape in shapes.items() if shape}

    def read(self) -> Any:
        raise AssertionError("a plan reads no tensor")


@pytest.fixture
def source(tmp_path: Path) -> ExportSource:
    return source_of(model_folder(tmp_path / "model"), tmp_path / "scratch", name="mill")


def test_the_tensors_come_in_the_order_of_the_source(source: ExportSource) -> None:
    planned = plan_file(source, OPTIONS)
    assert [one.target.name for one in planned.tensors] == list(source.shapes)
    assert file_name(OPTIONS) == "mill-q8_0.gguf"
    assert planned.metadata["general.file_type"] == 7


def test_a_tied_head_that_is_stored_is_not_written(source: ExportSource) -> None:
    tied = replace(source, config={**source.config, "tie_word_embeddings": True})
    assert "output.weight" not in {one.name for one in plan_file(tied, OPTIONS).tensors}


def test_buffers_of_older_folders_are_left_out(source: ExportSource) -> None:
    more: Any = Named(source, **{"model.layers.0.self_attn.rotary_emb.inv_freq": (32,)})
    planned = plan_file(replace(source, tensors=more), OPTIONS)
    assert len(planned.tensors) == len(source.shapes)


@pytest.mark.parametrize(
    ("changes", "have"),
    [
        ({"model.norm.weight": ()}, "no tensor model.norm.weight"),
        ({"model.layers.0.extra.weight": (3,)}, "the tensor model.layers.0.extra.weight"),
        ({"model.norm.weight": (3,)}, "model.norm.weight of shape [3]"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(
    changes: dict[str, Any], have: str, source: ExportSource
) -> None:
    tensors: Any = Named(source, **changes)
    with pytest.raises(UsageError) as caught:
        plan_file(replace(source, tensors=tensors), OPTIONS)
    assert caught.value.cause is Cause.MODEL_UNSUPPORTED
    assert caught.value.have == have


@pytest.mark.parametrize(
    ("name", "written"),
    [("mill", "mill"), ("my-Phi-3-mini", "my-phi 3-mini"), ("phi3", "phi 3")],
)
def test_a_name_does_not_make_llama_cpp_take_spaces_away(
    name: str, written: str, source: ExportSource
) -> None:
    """It does so for models whose name says phi-3."""
    planned = plan_file(replace(source, name=name), OPTIONS)
    assert planned.metadata["general.name"] == written
