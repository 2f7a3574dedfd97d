"""A right file passes; each way in which files were wrong elsewhere is caught, and named."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.export.models import adapters, model_folder, source_of, trained_tokenizer

from headway.base.pulse import Pulse
from headway.data.examples.tokenizer import TURN_END, Tokenizer
from headway.export.gguf import formats
from headway.export.gguf.formats import format_of
from headway.export.gguf.plan import plan_file
from headway.export.gguf.write import PlannedTensor, write_gguf
from headway.export.request import ExportOptions
from headway.export.source import ExportSource
from headway.export.verify.checks import Difference
from headway.export.verify.verify import FileVerdict, computed_in, verify_gguf
from headway.export.verify.weights import WeightProblem
from headway.model.gguf.layout import TensorTarget

TURNS = (
    "{{ bos_token }}{% for m in messages %}### {{ m.role }}: {{ m.content }}<stop>\n{% endfor %}"
    "{% if add_generation_prompt %}### assistant: {% endif %}"
)


@dataclass
class Mutant:
    """A file that is written wrongly.

    Attributes:
        metadata: keys with other values; None leaves one out.
        tensors: what becomes of a tensor, by its name.
        more: tensors beside those that were planned, with the one that they are made of.
    """

    metadata: Mapping[str, Any]
    tensors: Callable[[str, Any], Any] = lambda _, tensor: tensor
    more: tuple[str, str] | None = None


def stopping_tokenizer() -> Tokenizer:
    """A tokenizer whose end token llama.cpp does not know by its spelling, and with a bos token."""
    files = {
        name: data.replace(b"<|im_end|>", b"<stop>").replace(b"<|im_start|>", b"<start>")
        for name, data in trained_tokenizer(chat=False).with_end_token(TURN_END).files.items()
    }
    config = files["tokenizer_config.json"].replace(
        b"{\n", b'{\n  "bos_token": "<start>",\n  "add_bos_token": true,\n', 1
    )
    return Tokenizer(files | {"tokenizer_config.json": config}, "x").with_template(TURNS)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("models")
    plain = model_folder(place / "plain", tokenizer=stopping_tokenizer())
    return {
        "plain": plain,
        "tied": model_folder(
            place / "tied", tokenizer=stopping_tokenizer(), tie_word_embeddings=True
        ),
        "lora": adapters(place / "lora", plain),
    }


def judge(
    source: ExportSource, path: Path, mutant: Mutant | None = None, quantize: str = "f32"
) -> FileVerdict:
    planned = plan_file(source, ExportOptions("gguf", quantize=quantize))
    mutant = mutant or Mutant({})
    metadata = {k: v for k, v in {**planned.metadata, **mutant.metadata}.items() if v is not None}
    tensors, more = list(planned.tensors), []
    if mutant.more:
        name, origin = mutant.more
        shape = source.shapes[origin]
        chosen = format_of(name, shape, quantize, 2, tied=False)
        tensors.append(PlannedTensor(name, TensorTarget(name, shape), chosen))
        values = dict(source.read_tensors())[origin]
        more = [(name, mutant.tensors(name, values))]

    def read() -> Iterator[tuple[str, Any]]:
        for name, tensor in source.read_tensors():
            yield name, mutant.tensors(name, tensor)
        yield from more

    name = planned.architecture.name
    write_gguf(path, name, metadata, planned.architecture.tensors, tensors, read(), lambda _: None)
    return verify_gguf(path, source, planned, quantize, Pulse())


@pytest.mark.parametrize("name", ["plain", "tied", "lora"])
def test_a_right_file_passes(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    found = judge(source_of(folders[name], tmp_path / "scratch"), tmp_path / "a.gguf")
    assert found.verification.failure is None
    assert found.differences == ()
    assert all(check.passed for check in found.verification.checks)
    measured = {check.what: check.measured for check in found.verification.checks}
    assert 0 < (measured["the farthest of them"] or 0) < 1e-4


def test_gelu_comes_from_a_table_in_16_bits() -> None:
    found = [computed_in(name, one) for name in ("gemma3", "llama") for one in ("f32", "q8_0")]
    assert found == ["f16", "q8_0", "f32", "q8_0"]


def transposed(name: str, tensor: Any) -> Any:
    return tensor.T.contiguous() if name == "model.layers.1.self_attn.o_proj.weight" else tensor


def rounded(name: str, tensor: Any) -> Any:
    return tensor.bfloat16().float() if "_proj" in name else tensor


def disturbed(name: str, tensor: Any) -> Any:
    return tensor * 1.05 if name == "output.weight" else tensor


MUTANTS = {
    "template dropped": (
        "plain",
        Mutant({"tokenizer.chat_template": None}),
        Difference.TEMPLATE,
        None,
    ),
    "BOS added twice: by the template": (
        "plain",
        Mutant({"tokenizer.chat_template": "{{ bos_token }}" + TURNS}),
        Difference.TEMPLATE,
        None,
    ),
    "BOS left out": (
        "plain",
        Mutant({"tokenizer.ggml.add_bos_token": False}),
        Difference.BEGINNING,
        None,
    ),
    "end token missing": (
        "plain",
        Mutant({"tokenizer.ggml.eos_token_id": 0}),
        Difference.ENDS,
        None,
    ),
    "wrong pre-tokenizer": (
        "plain",
        Mutant({"tokenizer.ggml.pre": "llama-bpe"}),
        Difference.TOKENS,
        None,
    ),
    "a tensor transposed": (
        "plain",
        Mutant({}, tensors=transposed),
        Difference.PROBABILITIES,
        ("blk.1.attn_output.weight", WeightProblem.TRANSPOSED),
    ),
    "merged in bf16": (
        "lora",
        Mutant({}, tensors=rounded),
        Difference.PROBABILITIES,
        ("blk.0.attn_q.weight", WeightProblem.ROUNDED),
    ),
    "tied embedding written twice": (
        "tied",
        Mutant({}, tensors=disturbed, more=("output.weight", "model.embed_tokens.weight")),
        Difference.PROBABILITIES,
        ("output.weight", WeightProblem.UNTIED),
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught_and_named(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    folder, mutant, difference, weight = MUTANTS[name]
    found = judge(source_of(folders[folder], tmp_path / "scratch"), tmp_path / "a.gguf", mutant)
    assert difference in found.differences
    assert found.verification.failure is not None
    assert str(difference) in found.verification.failure.have
    if weight is None:
        assert found.weight is None
        return
    assert found.weight is not None
    assert (found.weight.name, found.weight.problem) == weight
    assert found.weight.name in found.verification.failure.have


@pytest.mark.parametrize("name", ["a tensor transposed", "merged in bf16"])
def test_weights_that_differ_show_in_16_bits(
    name: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    folder, mutant, _, weight = MUTANTS[name]
    source = source_of(folders[folder], tmp_path / "scratch")
    found = judge(source, tmp_path / "a.gguf", mutant, "f16")
    assert Difference.WEIGHTS in found.differences
    assert found.weight is not None
    assert (found.weight.name, found.weight.problem) == weight


def test_the_permutation_of_queries_and_keys_left_out(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "row_order", lambda num_rows, heads: None)
    found = judge(source_of(folders["plain"], tmp_path / "scratch"), tmp_path / "a.gguf")
    assert found.differences[0] is Difference.PROBABILITIES
    assert found.weight is not None
    assert found.weight.problem is WeightProblem.NOT_PERMUTED
    assert found.weight.name == "blk.0.attn_q.weight"


def test_a_bos_token_that_the_model_does_not_have(tmp_path: Path) -> None:
    """The tokenizer puts none before a text, nor its template; the file says that there is one."""
    folder = model_folder(tmp_path / "model")
    changes = {"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.bos_token_id": 0}
    source = source_of(folder, tmp_path / "scratch")
    found = judge(source, tmp_path / "a.gguf", Mutant(changes))
    assert found.differences[:2] == (Difference.BEGINNING, Difference.CHAT_TOKENS)


def test_a_file_that_llama_cpp_cannot_load_is_said_so(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    mutant = Mutant({"llama.block_count": 3})
    found = judge(source_of(folders["plain"], tmp_path / "scratch"), tmp_path / "a.gguf", mutant)
    assert found.differences == (Difference.NOT_LOADED,)
    assert found.verification.failure is not None
    assert "blk.2" in found.verification.failure.have
