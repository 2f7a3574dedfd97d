"""Peak memory of a training step's tensors, beside what the plan's memory model says of it.

    python bench/step_memory.py [cpu|cuda]

Six ways of training one shape. On a GPU, the peak is torch.cuda.max_memory_allocated; on a
processor, the bytes of all storages that are alive are counted, operation by operation. Neither
shares code with the estimate. `measure` is for other scripts.
"""

import sys
import tempfile
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from headway.base.documents import DocumentGroup
from headway.base.machine import Machine
from headway.base.units import size
from headway.data.batching.batches import MicroTensors
from headway.data.survey.result import Lengths
from headway.model.forward import Forward
from headway.model.frozen_weights import (
    from_folder_in_4bit,
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

WITHIN = 0.15  # how far the estimated peak may be from the real one
LORA = LoraPlan(16, 32.0, 0.0, ("all-linear",))
# A shape for a processor, and one for a GPU: about 7 M and 1.2 G weights.
SIZES: dict[str, dict[str, int]] = {
    "cpu": {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 4},
    "cuda": {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22},
}
TOKENS = {"cpu": 384, "cuda": 2048}  # of a document, of which a micro-batch has two


@dataclass(frozen=True)
class Case:
    """One way to train."""

    name: str
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


CASES = (
    Case("full-fp32", dtype="float32"),
    Case("full-bf16", checkpointed=False),
    Case("full-bf16-recomputed", checkpointed=True),
    Case("full-bf16-8bit", optim="adamw_8bit", checkpointed=True),
    Case("lora-bf16", lora=True),
    Case("lora-4bit-recomputed", lora=True, in_4bit=True, checkpointed=True),
)


def config_of(device: str) -> dict[str, Any]:
    """A Llama's config.json, as plain values."""
    heads = SIZES[device]["hidden_size"] // 64
    return SIZES[device] | {
        "model_type": "llama",
        "num_attention_heads": heads,
        "num_key_value_heads": heads // 2,
        "head_dim": 64,
        "vocab_size": 8192,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": False,
    }


def measure(device: str, cases: tuple[Case, ...] = CASES) -> Iterator[Peak]:
    """Train two steps of each, and count the second one's peak."""
    config = config_of(device)
    with tempfile.TemporaryDirectory() as folder:
        model: Any = from_config(config, seed=1)
        model.save_pretrained(folder)
        for case in cases:
            torch.manual_seed(0)
            estimated = estimate(case, device, config, TOKENS[device])
            yield Peak(case.name, estimated, actual(case, device, Path(folder)))


def estimate(case: Case, device: str, config: dict[str, Any], tokens: int) -> int:
    """What the memory model says, without the process and the copy for saving.

    Args:
        case: how it is trained.
        device: where.
        config: of the model, as in config.json.
        tokens: of a document, of which a micro-batch has two.
    """
    shape = shape_of(config)
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
        step_tokens=4 * tokens,
        num_steps=2,
        layout=StepLayout(1, 2 * tokens),
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
    read = from_folder_in_4bit if case.in_4bit else from_folder
    given = {"device": device} if case.in_4bit else {}
    model: Any = read(folder, trust_remote_code=False, **given)
    if case.lora:
        targets, dropout = LORA.target_modules, LORA.dropout
        model = with_lora(
            model, r=LORA.r, alpha=LORA.alpha, dropout=dropout, target_modules=targets, seed=1
        )
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
    micro = _micro(TOKENS[device], 8192, device)

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


def _micro(tokens: int, vocab: int, device: str) -> MicroTensors:
    ids = torch.randint(vocab, (2 * tokens,))
    at = torch.cat([torch.arange(tokens - 1), tokens + torch.arange(tokens - 1)])
    return MicroTensors(
        rows_R=torch.arange(2).numpy(),
        ids_N=ids.to(device),
        positions_N=torch.arange(tokens).repeat(2).to(device),
        trained_at_M=at.to(device),
        targets_M=ids[at + 1].to(device),
        documents=(DocumentGroup(tokens, count=2),),
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
    """Measure and print; fails where an estimate is off by more than `WITHIN`."""
    device = arguments[0] if arguments else "cuda" if torch.cuda.is_available() else "cpu"
    peaks: list[Peak] = []
    for peak in measure(device):
        peaks.append(peak)
        numbers = f"{size(peak.estimated):>9} {size(peak.actual):>9} {peak.ratio:5.2f}"
        print(f"{peak.name:22} {numbers}", flush=True)
    return 0 if all(abs(peak.ratio - 1) <= WITHIN for peak in peaks) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
