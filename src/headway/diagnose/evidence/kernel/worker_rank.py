"""Worker rank: which worker of a distributed job a process is, from its environment."""

from pathlib import Path

from headway.diagnose.evidence.kernel.proc_files import text_of

# What torchrun, Open MPI and Slurm give each worker: its rank, and how many there are.
_VARIABLES = (
    ("RANK", "WORLD_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("SLURM_PROCID", "SLURM_NTASKS"),
)


def worker_rank(process: Path, parent: Path) -> str:
    """'worker 1 of 4'; "" for one that is alone, or has its parent's rank, as its loaders do.

    Args:
        process: its folder in /proc.
        parent: that of its parent.
    """
    own = _rank(process)
    return own if own != _rank(parent) else ""


def _rank(process: Path) -> str:
    words = (line.partition("=") for line in text_of(process / "environ").split("\0"))
    names = {name for pair in _VARIABLES for name in pair}
    known = {name: value for name, _, value in words if name in names and value.isdecimal()}
    for rank, size in _VARIABLES:
        if rank in known and int(known.get(size, "1")) > 1:
            return f"worker {known[rank]} of {known[size]}"
    return ""
