"""Peak memory of a training step's tensors, beside what the plan's memory model says of it.

    python bench/step_memory.py [cpu|cuda]     every case; results/DATE-step-memory.json and .md
    python bench/step_memory.py --only NAME    one case; prints, writes nothing

Ways of training six shapes: all weights, adapters, and adapters on 4 bits, with layers recomputed
or not. On a GPU, the peak is torch.cuda.max_memory_allocated; on a processor, the bytes of all
storages that are alive are counted, operation by operation. Neither shares code with the estimate.
`measure` is for other scripts.
"""

import argparse
import json
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from headway.base.documents import DocumentGroup
from headway.base.machine import Machine
from headway.base.units import size
from headway.data.batching.batches import MicroTensors
from headway.data.survey.result import Lengths
from headway.model.forward import Forward
from headway.model.frozen_weights import (
    from_folder_as_stored,
    from_folder_in_4bit,
    shown_in_fp32,
)
from headway.model.load import from_config, from_folder, trainable, with_lora
from headway.model.quantized.layers import quantized_layers
from headway.model.sizes import lora_parameters, shape_of
from headway.planning.compute import Compute, KnownMachine
from headway.planning.memory.estimate import MemoryInputs, estimate_memory
from headway.planning.step_layout import StepLayout
from headway.runs.plan import LearningPlan, LoraPlan, ModelPlan
from headway.training.optimizer import hidden_matrices, make_optimizer
from headway.training.setup import checkpoint_activations

HERE = Path(__file__).parent
WITHIN = 0.15  # how far the estimated peak may be from the real one
LORA = LoraPlan(16, 32.0, 0.0, ("all-linear",))
GPU_SCALE = 8  # of widths on a GPU; tokens there are four times as many


@dataclass(frozen=True)
class Shape:
    """A Llama, and the documents of a micro-batch. Sizes are those for a processor."""

    hidden: int
    intermediate: int
    layers: int
    vocab: int
    documents: tuple[int, int]  # how many, and the tokens of each
    kv_heads_share: int = 2  # query heads for each head of keys
    tied: bool = False


SHAPES: dict[str, Shape] = {
    "usual": Shape(256, 704, 4, 8192, (2, 384)),
    "vocabulary": Shape(128, 352, 2, 32768, (2, 256), tied=True),
    "deep": Shape(128, 352, 10, 2048, (2, 256)),
    "wide": Shape(384, 1536, 2, 512, (2, 384), kv_heads_share=1),
    "long": Shape(192, 512, 4, 4096, (1, 1024), kv_heads_share=3),
    "short": Shape(256, 512, 4, 1024, (12, 64)),
}


@dataclass(frozen=True)
class Case:
    """One way to train a shape."""

    name: str
    shape: str = "usual"
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    optim: str = "adamw"
    lora: bool = False
    in_4bit: bool = False
    checkpointed: bool = False


@dataclass(frozen=True)
class Peak:
    """What came of it, in bytes."""

    name: str
    estimated: int
    actual: int

    @property
    def ratio(self) -> float:
        """Estimated over actual."""
        return self.estimated / self.actual


WAYS: tuple[tuple[str, dict[str, bool]], ...] = (
    ("full", {}),
    ("full-recomputed", {"checkpointed": True}),
    ("lora", {"lora": True}),
    ("lora-recomputed", {"lora": True, "checkpointed": True}),
    ("4bit", {"lora": True, "in_4bit": True}),
    ("4bit-recomputed", {"lora": True, "in_4bit": True, "checkpointed": True}),
)
CASES = (
    Case("usual-full-fp32", dtype="float32"),
    Case("usual-full-8bit", optim="adamw_8bit"),
    *(Case(f"{shape}-{way}", shape, **given) for shape in SHAPES for way, given in WAYS),
)


def config_of(case: Case, device: str) -> dict[str, Any]:
    """A Llama's config.json, as plain values."""
    shape, scale = SHAPES[case.shape], GPU_SCALE if device == "cuda" else 1
    heads = shape.hidden * scale // 64
    return {
        "model_type": "llama",
        "hidden_size": shape.hidden * scale,
        "intermediate_size": shape.intermediate * scale,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads // shape.kv_heads_share,
        "head_dim": 64,
        "vocab_size": shape.vocab,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": shape.tied,
    }


def documents_of(case: Case, device: str) -> tuple[int, int]:
    """How many documents a micro-batch has, and the tokens of each."""
    number, tokens = SHAPES[case.shape].documents
    return number, tokens * (4 if device == "cuda" else 1)


def measure(device: str, cases: Iterable[Case] = CASES) -> Iterator[Peak]:
    """Train two steps of each, and count the second one's peak."""
    for case in cases:
        config, documents = config_of(case, device), documents_of(case, device)
        with tempfile.TemporaryDirectory() as folder:
            model: Any = from_config(config, seed=1)
            (model.bfloat16() if case.lora else model).save_pretrained(folder)
            torch.manual_seed(0)
            estimated = estimate(case, device, config, documents)
            yield Peak(case.name, estimated, actual(case, device, Path(folder)))


def estimate(case: Case, device: str, config: dict[str, Any], documents: tuple[int, int]) -> int:
    """What the memory model says, without the process and the copy for saving.

    Args:
        case: how it is trained.
        device: where.
        config: of the model, as in config.json.
        documents: how many a micro-batch has, and the tokens of each.
    """
    shape, (number, tokens) = shape_of(config), documents
    model = ModelPlan(
        source="folder",
        name="",
        path="",
        config=config,
        vocab_size=shape.vocab,
        context=4096,
        weights_sha256="",
        parameters=shape.parameters,
        trainable=lora_parameters(shape, LORA.r) if case.lora else shape.parameters,
        trust_remote_code=False,
        lora=LORA if case.lora else None,
        parent=None,
        load_in_4bit=case.in_4bit,
    )
    inputs = MemoryInputs(
        model=model,
        optim=case.optim,
        shape=shape,
        compute=Compute(device, 1, case.dtype),
        kind="conversations",
        lengths=Lengths(tokens, tokens, tokens, tokens),
        untrained=0.0,
        step_tokens=2 * number * tokens,
        num_steps=2,
        layout=StepLayout(1, number * tokens),
        checkpointing=case.checkpointed,
    )
    machine = Machine(1, 0, 0, "", "")
    facts = KnownMachine(machine, device, "", 0, lambda _: None, "")
    memory = estimate_memory(inputs, facts)
    return memory.weights + memory.gradients + memory.optimizer + memory.activations


def actual(case: Case, device: str, folder: Path) -> int:
    """The most bytes of tensors that were alive in a step."""
    step, held = _prepared(case, device, folder)
    step()  # moments, and what is made once
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()
    before = sum(_storages(held()).values())
    with LiveBytes(set(_storages(held()))) as live:
        step()
    return before + live.peak


def _prepared(
    case: Case, device: str, folder: Path
) -> tuple[Callable[[], None], Callable[[], list[Tensor]]]:
    """A step of two micro-batches, and the tensors that are there between steps."""
    model: Any = _loaded(case, device, folder)
    model.to(device).train()
    if case.checkpointed:
        checkpoint_activations(model)
    parameters = trainable(model)
    forward = Forward(model)
    forward.run_separately(False)
    forward.compute_in(getattr(torch, case.dtype))
    forward.release_exact_weights()
    plan = LearningPlan(case.optim, 1e-4, "constant", 0, 0.1, 0.9, 0.95, 1e-8, 1.0)
    optimizer = make_optimizer(parameters, plan, hidden_matrices(model))
    micro = _micro(*documents_of(case, device), SHAPES[case.shape].vocab, device)

    def step() -> None:
        forward.model.train()
        for _ in range(2):
            forward.loss(micro, 2 * len(micro.targets_M)).backward()
            forward.collect_gradients()
        optimizer.step()
        forward.refresh_copies()
        optimizer.zero_grad(set_to_none=True)

    def held() -> list[Tensor]:
        tensors: list[Any] = [*model.parameters(), *forward.model.parameters()]
        tensors += [*model.buffers(), *forward.model.buffers()]
        tensors += [one for state in optimizer.state.values() for one in state.values()]
        for _, layer in quantized_layers(model):
            scales = layer._scales  # noqa: SLF001
            tensors += [scales.absmax, scales.code, scales.state2.absmax, scales.state2.code]
        return [one for one in tensors if isinstance(one, Tensor)]

    return step, held


def _loaded(case: Case, device: str, folder: Path) -> nn.Module:
    """The model, as a run loads it."""
    if case.in_4bit:
        model = from_folder_in_4bit(folder, trust_remote_code=False, device=device, as_stored=True)
    elif case.lora:
        model = from_folder_as_stored(folder, trust_remote_code=False, device=device)
    else:
        return from_folder(folder, trust_remote_code=False)
    with shown_in_fp32(model):
        return with_lora(
            model,
            r=LORA.r,
            alpha=LORA.alpha,
            dropout=LORA.dropout,
            target_modules=LORA.target_modules,
            seed=1,
        )


def _micro(number: int, tokens: int, vocab: int, device: str) -> MicroTensors:
    ids = torch.randint(vocab, (number * tokens,))
    at = torch.cat([tokens * one + torch.arange(tokens - 1) for one in range(number)])
    return MicroTensors(
        rows_R=torch.arange(number).numpy(),
        ids_N=ids.to(device),
        positions_N=torch.arange(tokens).repeat(number).to(device),
        trained_at_M=at.to(device),
        targets_M=ids[at + 1].to(device),
        documents=(DocumentGroup(tokens, count=number),),
        host_trained_at_M=at.numpy(),
    )


def _storages(tensors: list[Tensor]) -> dict[int, int]:
    """Which one -> bytes of each storage; fake ones have no address."""
    each: list[Any] = [one.untyped_storage() for one in tensors]
    return {one._cdata: one.nbytes() for one in each}  # noqa: SLF001 - of the storage itself


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of storages that operations make, while they are alive.

    Args:
        known: storages that are there already and not counted, as `_storages` names them.

    Attributes:
        now: bytes.
        peak: the most so far.
    """

    def __init__(self, known: set[int] | None = None) -> None:
        super().__init__()
        self._seen = known or set()
        self.now = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **kwargs or {})
        for one in out if isinstance(out, list | tuple) else [out]:
            if isinstance(one, Tensor):
                self._add(one)
        return out

    def _add(self, tensor: Tensor) -> None:
        storage: Any = tensor.untyped_storage()
        at, num = storage._cdata, storage.nbytes()  # noqa: SLF001 - of the storage itself
        if not num or at in self._seen:
            return
        self._seen.add(at)
        self.now += num
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._remove, at, num)

    def _remove(self, at: int, num: int) -> None:
        self._seen.discard(at)
        self.now -= num


def main(arguments: list[str]) -> int:
    """Measure, print, and write the files; fails where an estimate is off by more than `WITHIN`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("device", nargs="?", choices=("cpu", "cuda"))
    parser.add_argument("--only", nargs="*", choices=[case.name for case in CASES])
    given = parser.parse_args(arguments)
    device = given.device or ("cuda" if torch.cuda.is_available() else "cpu")
    wanted = [case for case in CASES if not given.only or case.name in given.only]
    peaks: list[Peak] = []
    for peak in measure(device, wanted):
        peaks.append(peak)
        numbers = f"{size(peak.estimated):>9} {size(peak.actual):>9} {peak.ratio:5.2f}"
        print(f"{peak.name:28} {numbers}", flush=True)
    if not given.only:
        write(peaks, device)
    return 0 if all(abs(peak.ratio - 1) <= WITHIN for peak in peaks) else 1


def write(peaks: list[Peak], device: str) -> None:
    """The dated files."""
    stem = HERE / "results" / f"{date.today().isoformat()}-step-memory"
    versions = {name: version(name) for name in ("headway", "torch", "transformers", "peft")}
    cases = [asdict(peak) | {"ratio": round(peak.ratio, 3)} for peak in peaks]
    told = {"device": device, "versions": versions, "within": WITHIN, "cases": cases}
    stem.with_suffix(".json").write_text(json.dumps(told, indent=1) + "\n")
    stem.with_suffix(".md").write_text(page(peaks, device, versions))


def page(peaks: list[Peak], device: str, versions: dict[str, str]) -> str:
    """The same for people."""
    worst = max(peaks, key=lambda peak: abs(peak.ratio - 1))
    middle = median(one.ratio for one in peaks)
    where = "a processor; not yet run on a GPU" if device == "cpu" else "a GPU"
    rows = "\n".join(
        f"| {one.name} | {size(one.estimated)} | {size(one.actual)} | {one.ratio:.2f} |"
        for one in peaks
    )
    return f"""# Peak memory of a step's tensors, estimated and actual

{date.today().isoformat()} · {where} · {", ".join(" ".join(one) for one in versions.items())}

Estimated is what a plan's memory model says of weights, gradients, moments and activations; actual
is the most bytes of tensors that were alive in a step. The two share no code. The ratio is to lie
within {WITHIN:.0%} of 1: the worst is {worst.ratio:.2f} ({worst.name}), the median {middle:.2f}.

| shape and way | estimated | actual | ratio |
|---|--:|--:|--:|
{rows}
"""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
