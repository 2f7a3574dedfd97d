"""Device, threads and number format of a run, and the machine facts behind them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from headway.base import units
from headway.base.errors import Cause, MachineError, Remedy, UsageError
from headway.base.machine import Machine
from headway.config.optimizers import OPTIMIZERS
from headway.config.settings import Settings
from headway.planning.decision import Decision, auto
from headway.runs.measurements import bf16_gain, peak_key
from headway.runs.workers import Reduction, WorkerTree

_Fit = TypeVar("_Fit")
_DEVICE_NAMES = {"cpu": "processor", "cuda": "GPU"}


@dataclass(frozen=True)
class KnownMachine:
    """What the planner knows about this machine.

    Attributes:
        machine: cores, memory, processor.
        device: the device to train on.
        why: why that device.
        process_bytes: memory of interpreter and libraries before any weight is loaded.
        measured: looks up a measured speed or time by name; None if never measured.
        torch: the torch version.
        allocator: the memory allocator the trainer is started with; "" for the system's.
        waiting: what its threads do while they wait for each other.
        compiler: the C++ compiler torch can use; "" if there is none.
        device_free_bytes: of a GPU's memory, without what CUDA itself takes; 0 if unknown.
    """

    machine: Machine
    device: str
    why: str
    process_bytes: int
    measured: Callable[[str], float | None]
    torch: str
    allocator: str = ""
    waiting: str = ""
    compiler: str = ""
    device_free_bytes: int = 0

    @property
    def free_bytes(self) -> int:
        """Free memory of the device to train on; 0 if unknown."""
        return self.machine.memory_free_bytes if self.device == "cpu" else self.device_free_bytes

    def is_faster_in_bf16(self, threads: int) -> bool:
        """By earlier measurements on this machine, else by what the processor supports."""
        names = ("torch.bfloat16", "torch.float32")
        bf16, fp32 = (self.measured(peak_key(self.device, n, threads, self.torch)) for n in names)
        if bf16 and fp32:
            return bf16 > bf16_gain(self.machine) * fp32
        return self.device == "cuda" or (self.device == "cpu" and self.machine.fast_in_bf16)


@dataclass(frozen=True)
class Compute:
    """Where a run computes, and in which number format."""

    device: str
    threads: int  # of each worker
    dtype: Literal["float32", "bfloat16"]
    workers: WorkerTree = WorkerTree()  # noqa: RUF009 - frozen
    reduction: Reduction = "tree"

    @property
    def is_sharded(self) -> bool:
        """Whether each worker of a group holds a part of every weight."""
        return self.reduction == "hsdp" and self.workers.workers > 1

    @property
    def num_shards(self) -> int:
        """Parts that the weights are cut into."""
        return self.workers.workers // self.workers.groups if self.is_sharded else 1

    @property
    def value_bytes(self) -> int:
        """Bytes of one number of `dtype`."""
        return 2 if self.dtype == "bfloat16" else 4


def decide_compute(settings: Settings, facts: KnownMachine) -> Decision[Compute]:
    """Device, threads and number format: as given, or what is fastest on this machine.

    Raises:
        UsageError: more groups than workers, several workers on one GPU, or a way to add their
            gradients that is not there.
    """
    choices = []
    _check_bitsandbytes(settings, facts)
    workers = _decide_workers(settings, facts)
    threads = settings.threads or max(1, facts.machine.cores // workers.workers)
    if not settings.threads:
        cores = units.plural(facts.machine.cores, "core")
        shared = f"{cores} for {workers.workers} workers"
        reason = "cores available to this process" if workers.workers == 1 else shared
        choices.append(auto("threads", threads, reason))
    if not settings.device:
        choices.append(auto("device", facts.device, facts.why))
    bf16 = settings.bf16
    if bf16 is None:
        bf16 = facts.is_faster_in_bf16(threads)
        speed = "much faster" if bf16 else "not much faster"
        device = _DEVICE_NAMES.get(facts.device, facts.device)
        reason = f"matrix products are {speed} in bf16 on this {device}"
        choices.append(auto("bf16", bf16, reason))
    reduction = _decide_reduction(settings, workers)
    if workers.workers > 1 and not settings.reduction:
        choices.append(auto("reduction", reduction, "the same bits for any number of workers"))
    dtype: Literal["float32", "bfloat16"] = "bfloat16" if bf16 else "float32"
    return Decision(Compute(facts.device, threads, dtype, workers, reduction), tuple(choices))


def _check_bitsandbytes(settings: Settings, facts: KnownMachine) -> None:
    """Check that the device can do what bitsandbytes is asked for.

    Raises:
        UsageError: it cannot.
    """
    in_4bit = "--load-in-4bit " if settings.load_in_4bit else ""
    kind = OPTIMIZERS[settings.optim]
    optim = f"--optim {settings.optim}" if kind.package else ""
    if facts.device == "cpu" and kind.is_paged:
        plain = settings.optim.removeprefix("paged_")
        raise UsageError(
            f"{settings.optim} moves its state between a GPU and the host's memory",
            cause=Cause.CONTRADICTION,
            have=f"{optim}, device cpu",
            need="a GPU, or an optimizer that is not paged",
            remedies=(Remedy(f"--optim {plain}", "the same without paging"),),
        )
    if (in_4bit or optim) and facts.device not in ("cpu", "cuda"):
        raise UsageError(
            f"bitsandbytes does not compute on {facts.device}",
            cause=Cause.CONTRADICTION,
            have=f"{in_4bit}{optim}".strip() + f", device {facts.device}",
            need="a processor or an NVIDIA device",
            remedies=(
                Remedy("--device cpu", "trains on the processor"),
                Remedy("--no-load-in-4bit --optim adamw", "without bitsandbytes"),
            ),
        )


def _decide_workers(settings: Settings, facts: KnownMachine) -> WorkerTree:
    if settings.groups > settings.nproc:
        raise UsageError(
            f"{settings.groups} groups of {units.plural(settings.nproc, 'worker')}",
            cause=Cause.CONTRADICTION,
            have=f"--nproc {settings.nproc} --groups {settings.groups}",
            need="at least one worker in each group",
            remedies=(
                Remedy(f"--nproc {settings.groups}", "a worker in each group"),
                Remedy(f"--groups {settings.nproc}"),
            ),
        )
    if settings.nproc > 1 and facts.device != "cpu":
        raise UsageError(
            f"several workers compute on processors, not on {facts.device}",
            cause=Cause.CONTRADICTION,
            have=f"--nproc {settings.nproc}, device {facts.device}",
            need="one worker, or --device cpu",
            remedies=(Remedy("--nproc 1"), Remedy("--device cpu")),
        )
    return WorkerTree(settings.nproc, settings.groups)


def decide_fitting(
    settings: Settings,
    facts: KnownMachine,
    fit: Callable[[Compute], Decision[_Fit]],
    *,
    is_stream: bool,
) -> tuple[Decision[Compute], Decision[_Fit]]:
    """Where to compute and what fits there; in shards if nothing else does.

    Args:
        settings: as given.
        facts: about this machine.
        fit: finds what fits.
        is_stream: the data is streamed, which no model in shards trains.

    Raises:
        UsageError: as `decide_compute` does.
        MachineError: nothing fits.
    """
    compute = decide_compute(settings, facts)
    try:
        return compute, fit(compute.value)
    except MachineError:
        shards = None if is_stream else in_shards(settings, compute)
        if shards is None:
            raise
        return shards, fit(shards.value)


def in_shards(settings: Settings, compute: Decision[Compute]) -> Decision[Compute] | None:
    """The same workers with the model in shards; None if that is not to be, or not possible.

    Args:
        settings: as given.
        compute: with the whole model in every worker, for which there is no room.
    """
    workers = compute.value.workers
    if settings.reduction or workers.workers == 1 or settings.torch_compile:
        return None
    if settings.load_in_4bit or OPTIMIZERS[settings.optim].needs_whole:
        return None
    if workers.workers % workers.groups:
        return None
    others = tuple(choice for choice in compute.choices if choice.name != "reduction")
    reason = f"there is no room for {workers.workers} copies of the model"
    chosen = auto("reduction", "hsdp", reason)
    return Decision(replace(compute.value, reduction="hsdp"), (*others, chosen))


def _decide_reduction(settings: Settings, workers: WorkerTree) -> Reduction:
    """How gradients are added over workers: as given, or in the tree.

    Raises:
        UsageError: a model cannot be in shards like this.
    """
    match settings.reduction:
        case "fast":
            return "fast"
        case "hsdp":
            _check_shards(settings, workers)
            return "hsdp"
        case _:
            return "tree"


def _check_shards(settings: Settings, workers: WorkerTree) -> None:
    """Check that a model can be in shards with these settings.

    Raises:
        UsageError: it cannot.
    """
    num, groups = workers.workers, workers.groups
    if num % groups:
        even = num - num % groups
        raise UsageError(
            f"{num} workers cannot hold {groups} copies of a model in shards",
            cause=Cause.CONTRADICTION,
            have=f"--nproc {num} --groups {groups} --reduction hsdp",
            need="groups of the same size: each holds a copy",
            remedies=(
                Remedy(f"--nproc {even}", f"{even // groups} in each group"),
                Remedy("--groups 1", "a single copy, in shards over all workers"),
            ),
        )
    if settings.load_in_4bit:
        remedy = Remedy("--no-load-in-4bit", "shards of the weights as they are")
        raise _not_in_shards("has no weights in 4 bits", "--load-in-4bit", remedy)
    needs_whole = OPTIMIZERS[settings.optim].needs_whole
    if needs_whole:
        what = f"is not trained by {settings.optim}: {needs_whole}"
        raise _not_in_shards(what, f"--optim {settings.optim}", Remedy("--optim adamw"))
    if settings.torch_compile:
        remedy = Remedy("--no-torch-compile", "shards, uncompiled")
        raise _not_in_shards("is not compiled", "--torch-compile", remedy)


def _not_in_shards(what: str, given: str, remedy: Remedy) -> UsageError:
    return UsageError(
        f"a model in shards {what}",
        cause=Cause.CONTRADICTION,
        have=f"--reduction hsdp {given}",
        need="one of the two",
        remedies=(remedy, Remedy("--reduction tree", "the whole model in each worker")),
    )
