"""Memory: swapping, and waiting for memory to be freed."""

from headway.base.errors import Remedy
from headway.base.units import count, share, size
from headway.diagnose.causes.roles import roles_of, who
from headway.diagnose.causes.row import CauseRow, diagnosis
from headway.diagnose.diagnosis import Diagnosis, StallCause
from headway.diagnose.evidence.facts import Evidence

_SWAPPING_PAGES_PER_S = 500.0
_FAULTS_PER_S = 200.0
_PRESSURE = 0.2
_LITTLE = 0.05  # of the memory


def find_memory_pressure(evidence: Evidence) -> Diagnosis | None:
    """Processes wait for memory: pages are read from a disk again and again."""
    machine = evidence.machine
    moved = machine.swap_in_pages_per_s + machine.swap_out_pages_per_s
    faulting = max(evidence.processes, key=lambda one: one.major_faults_per_s, default=None)
    if faulting is None:
        return None
    thrashes = faulting.major_faults_per_s >= _FAULTS_PER_S
    little = machine.memory_free_bytes < _LITTLE * machine.memory_bytes
    pressed = machine.memory_pressure >= _PRESSURE
    if not (pressed and (thrashes or little)) and not (moved >= _SWAPPING_PAGES_PER_S and thrashes):
        return None
    largest = max(evidence.processes, key=lambda one: one.memory_bytes)
    trainers = len(roles_of(evidence).trainers)
    return diagnosis(
        StallCause.MEMORY_PRESSURE,
        "the machine is out of memory: processes wait for pages from the disk",
        have=f"tasks wait for memory {share(machine.memory_pressure)} of the time; "
        f"{count(moved)} pages/s swapped; {size(machine.memory_free_bytes)} free of "
        f"{size(machine.memory_bytes)}; {who(largest)} has {size(largest.memory_bytes)}"
        + (f" and {size(largest.swapped_bytes)} swapped" if largest.swapped_bytes else ""),
        need="a job that fits into memory",
        remedies=(
            Remedy("ps -eo pid,rss,args --sort=-rss | head", "shows who uses the memory"),
            Remedy(
                "per_device_train_batch_size=1 gradient_accumulation_steps=8",
                "a smaller micro-batch (batch_size); the same step",
            ),
            Remedy("num_workers=0", "each worker of a DataLoader copies what it touches"),
        )[: 3 if trainers else 1],
        pid=largest.pid,
    )


MEMORY_PRESSURE = CauseRow(
    StallCause.MEMORY_PRESSURE,
    find_memory_pressure,
    "tasks wait for memory a fifth of the time with little memory free, or pages are swapped in "
    "and out",
    "a smaller batch, fewer workers; `ps --sort=-rss` shows who uses the memory",
)
