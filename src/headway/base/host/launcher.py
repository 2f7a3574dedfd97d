"""Launcher: torchrun, Slurm, MPI or Kubernetes, which start one command several times."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from headway.base.errors import Cause, Remedy, UsageError
from headway.base.foreign.answers import whole_number


@dataclass(frozen=True)
class _Names:
    """The variables in which a launcher tells a process its place."""

    workers: str
    rank: str
    local_workers: str
    local_rank: str


# Slurm sets its number of tasks for the one process of a batch script too, so that alone says
# nothing: the number of a job step does.
_LAUNCHERS = {
    "torchrun": _Names("WORLD_SIZE", "RANK", "LOCAL_WORLD_SIZE", "LOCAL_RANK"),
    "srun": _Names(
        "SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_STEP_TASKS_PER_NODE", "SLURM_LOCALID"
    ),
    "mpirun": _Names(
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
        "OMPI_COMM_WORLD_LOCAL_RANK",
    ),
    "mpiexec": _Names("PMI_SIZE", "PMI_RANK", "MPI_LOCALNRANKS", "MPI_LOCALRANKID"),
}
_ADDRESS, _PORT = "MASTER_ADDR", "MASTER_PORT"
_USUAL_PORT = 29_500
_RESTARTS = "TORCHELASTIC_RESTART_COUNT"


@dataclass(frozen=True)
class LaunchedPlace:
    """The place of this process among those that a launcher started.

    Attributes:
        launcher: its name.
        rank: of this process.
        workers: processes that were started, on all machines.
        local_rank: of this process among those of its machine.
        local_workers: processes of this machine.
        address: where the processes meet: the name or number of the machine of rank 0.
        port: there.
        restarts: of all processes by the launcher, since a person started it.
    """

    launcher: str
    rank: int
    workers: int
    local_rank: int
    local_workers: int
    address: str
    port: int
    restarts: int = 0

    @property
    def machines(self) -> int:
        """How many there are, if all have as many processes as this one."""
        return max(1, self.workers // self.local_workers)


def launched_place(environment: Mapping[str, str]) -> LaunchedPlace | None:
    """The place that a launcher gave this process; None if none started it.

    Args:
        environment: of this process.

    Raises:
        UsageError: the launcher does not say where its processes meet.
    """
    for launcher, names in _LAUNCHERS.items():
        workers, rank = (_number(environment, name) for name in (names.workers, names.rank))
        if workers is None or rank is None:
            continue
        address = environment.get(_ADDRESS, "127.0.0.1" if workers == 1 else "")
        if not address:
            raise _no_address(launcher, workers)
        return LaunchedPlace(
            launcher,
            rank,
            workers,
            _number(environment, names.local_rank) or 0,
            _number(environment, names.local_workers) or 1,
            address,
            _number(environment, _PORT) or _USUAL_PORT,
            _number(environment, _RESTARTS) or 0,
        )
    return None


def check_started_once(environment: Mapping[str, str], argv: Sequence[str]) -> None:
    """Refuse to be one of several processes that a launcher started with one command.

    Each would own a run of its own, in the same folder.

    Args:
        environment: of this process.
        argv: the command, to be typed without the launcher.

    Raises:
        UsageError: a launcher started several.
    """
    for launcher, names in _LAUNCHERS.items():
        num = _number(environment, names.workers) or 1
        if num > 1 and names.rank in environment:
            words = argv[1:]
            command = shlex.join(("headway", *words))
            plan = shlex.join(("headway", "plan", "--save", "RUN", "--nproc", str(num), *words[1:]))
            raise UsageError(
                f"{launcher} started this command {num} times",
                cause=Cause.CONTRADICTION,
                have=f"{names.workers}={num}, {names.rank}={environment[names.rank]}",
                need="one process, which starts its own workers on this machine",
                remedies=(
                    Remedy(f"{command} --nproc {num}", f"without {launcher}"),
                    Remedy(plan, f"then let {launcher} start: -m headway.training.worker RUN"),
                ),
            )


def _number(environment: Mapping[str, str], name: str) -> int | None:
    """A variable's number; of one like `4(x2)`, which Slurm writes, what comes first."""
    return whole_number(environment.get(name, "").partition("(")[0].partition(",")[0])


def _no_address(launcher: str, workers: int) -> UsageError:
    first = {
        "srun": '$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
    }.get(launcher, "HOST")
    return UsageError(
        f"{launcher} started {workers} processes that do not know where to meet",
        cause=Cause.MISSING_ARGUMENT,
        have=f"no {_ADDRESS}",
        need=f"{_ADDRESS}, the machine of rank 0; {_PORT} if {_USUAL_PORT} is taken there",
        remedies=(Remedy(f"export {_ADDRESS}={first}", "before the command"),),
    )
