"""Device, threads and number format of a run, and the machine facts behind them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from headway.base import units
from headway.base.errors import Cause, Remedy, UsageError
from headway.base.machine import Machine
from headway.config.settings import Settings
from headway.planning.decision import Decision, auto
from headway.runs.measurements import bf16_gain, peak_key
from headway.runs.workers import Reduction, WorkerTree

_DEVICE_NAMES = {"cpu": "processor", "cuda": "GPU"}


@dataclass(frozen=True)
class MachineFacts:
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
    def value_bytes(self) -> int:
        """Bytes of one number of `dtype`."""
        return 2 if self.dtype == "bfloat16" else 4


def decide_compute(settings: Settings, facts: MachineFacts) -> Decision[Compute]:
    """Device, threads and number format: as given, or what is fastest on this machine.

    Raises:
        UsageError: more groups than workers, several workers on one GPU, or a way to add their
            gradients that is not there.
    """
    choices = []
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
    reduction = _decide_reduction(settings)
    if workers.workers > 1 and not settings.reduction:
        choices.append(auto("reduction", reduction, "the same bits for any number of workers"))
    dtype: Literal["float32", "bfloat16"] = "bfloat16" if bf16 else "float32"
    return Decision(Compute(facts.device, threads, dtype, workers, reduction), tuple(choices))


def _decide_workers(settings: Settings, facts: MachineFacts) -> WorkerTree:
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


def _decide_reduction(settings: Settings) -> Reduction:
    """How gradients are added over workers: as given, or in the tree."""
    if settings.reduction == "hsdp":
        raise UsageError(
            "a model cannot be sharded over workers yet",
            cause=Cause.CONTRADICTION,
            have="--reduction hsdp",
            need="tree or fast: each worker holds the whole model",
            remedies=(Remedy("--reduction tree"), Remedy("--reduction fast")),
        )
    return "fast" if settings.reduction == "fast" else "tree"
