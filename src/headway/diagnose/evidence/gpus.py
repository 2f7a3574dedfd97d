"""GPUs: how busy they are, what is in their memory and who uses them, from nvidia-smi."""

from headway.base.host.nvidia_smi import ask_nvidia_smi
from headway.diagnose.evidence.facts import GpuFacts

_FIELDS = "index,name,uuid,utilization.gpu,memory.used,memory.total"
_MIB = 1 << 20


def read_gpus(seconds: float) -> tuple[GpuFacts, ...]:
    """The NVIDIA GPUs; none where there is no driver, or it does not answer in time.

    Args:
        seconds: how long to wait for an answer.
    """
    gpus = ask_nvidia_smi(f"--query-gpu={_FIELDS}", seconds)
    if not gpus:
        return ()
    return parse_gpus(gpus, ask_nvidia_smi("--query-compute-apps=gpu_uuid,pid", seconds))


def parse_gpus(gpus: str, processes: str) -> tuple[GpuFacts, ...]:
    """The GPUs from the two tables of nvidia-smi; what the driver does not know counts as 0.

    Args:
        gpus: index, name, UUID, busy %, MiB used, MiB in total.
        processes: UUID, pid.
    """
    users: dict[str, list[int]] = {}
    for uuid, pid in (_cells(line, 2) for line in processes.splitlines()):
        users.setdefault(uuid, []).append(round(_number(pid)))
    found: list[GpuFacts] = []
    for index, name, uuid, busy, used, total in (_cells(line, 6) for line in gpus.splitlines()):
        pids = tuple(pid for pid in users.get(uuid, ()) if pid)
        memory = round(_number(used)) * _MIB, round(_number(total)) * _MIB
        found.append(GpuFacts(round(_number(index)), name, _number(busy) / 100, *memory, pids))
    return tuple(found)


def _cells(line: str, num: int) -> list[str]:
    cells = [cell.strip() for cell in line.split(",")]
    return (cells + [""] * num)[:num]


def _number(text: str) -> float:
    """A number; 0 for "[N/A]" and its like."""
    try:
        return float(text)
    except ValueError:
        return 0.0
