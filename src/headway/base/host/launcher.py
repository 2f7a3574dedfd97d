"""Launcher: torchrun, Slurm or MPI, which start one command several times."""

import shlex
from collections.abc import Mapping, Sequence

from headway.base.errors import Cause, Remedy, UsageError
from headway.base.foreign.answers import whole_number

# How many processes were started, and which of them this is. Slurm sets its number of tasks for the
# one process of a batch script too, so that alone says nothing.
_VARIABLES = {
    "torchrun": ("WORLD_SIZE", "RANK"),
    "srun": ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
    "mpirun": ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    "mpiexec": ("PMI_SIZE", "PMI_RANK"),
}


def check_started_once(environment: Mapping[str, str], argv: Sequence[str]) -> None:
    """Refuse to be one of several processes that a launcher started with one command.

    Each would own a run of its own, in the same folder.

    Args:
        environment: of this process.
        argv: the command, to be typed without the launcher.

    Raises:
        UsageError: a launcher started several.
    """
    for launcher, (size, rank) in _VARIABLES.items():
        num = whole_number(environment.get(size)) or 1
        if num > 1 and rank in environment:
            command = shlex.join(("headway", *argv[1:]))
            raise UsageError(
                f"{launcher} started this command {num} times",
                cause=Cause.CONTRADICTION,
                have=f"{size}={num}, {rank}={environment[rank]}",
                need="one process, which starts its own workers on this machine",
                remedies=(Remedy(f"{command} --nproc {num}", f"without {launcher}"),),
            )
