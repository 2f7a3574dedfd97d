"""Roles of processes: who trains, who loads data, who only started others."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from headway.diagnose.causes.stacks import find_frame, innermost, is_in
from headway.diagnose.causes.waits import (
    BUSY,
    Wait,
    is_lock_wait,
    is_service,
    wait_of,
)
from headway.diagnose.evidence.facts import Evidence, ProcessFacts, ThreadFacts
from headway.diagnose.evidence.roles import STARTER, role_of

_COMPILERS = (
    *("g++", "gcc", "c++", "cc", "cc1", "cc1plus", "clang", "clang++", "nvcc", "cicc", "ptxas"),
    *("as", "ld", "collect2", "ninja", "cmake", "make", "rustc", "cargo", "cudafe++", "fatbinary"),
)
_HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")
_STARTERS = (  # code that waits for processes it has started
    *("subprocess", "multiprocessing/process", "multiprocessing/popen_fork", "pty"),
    *("multiprocessing/popen_spawn_posix", "torch/multiprocessing/spawn", "torch/distributed/run"),
    *("torch/distributed/elastic", "accelerate/commands", "torch/distributed/launcher"),
    *("deepspeed/launcher", "headway/supervise", "headway/guard"),
)
_DATA_WAITS = (  # code that waits for what other processes produce
    *("torch/utils/data", "multiprocessing/queues", "multiprocessing/connection"),
    *("multiprocessing/pool", "concurrent/futures/process", "joblib", "multiprocess"),
)
COLLECTIVES = (
    *("torch/distributed/distributed_c10d", "torch/distributed/c10d_logger"),
    *("torch/distributed/rendezvous", "torch/distributed/algorithms/join"),
    *("torch/distributed/nn/functional", "torch/distributed/_functional_collectives"),
    *("horovod", "headway/training/distributed"),
)
_COLLECTIVE_SYMBOLS = ("gloo::", "c10d::", "nccl", "Gloo", "NCCL", "MPI_", "PMPI_")


@dataclass(frozen=True)
class Roles:
    """The processes of a job by what they do.

    Attributes:
        trainers: those that do the work that was asked for; the first one if that is unclear.
        loaders: those that produce data for a trainer, or other work of its.
        launchers: those that wait for processes which they started.
        compilers: compilers and linkers.
    """

    trainers: tuple[ProcessFacts, ...]
    loaders: tuple[ProcessFacts, ...]
    launchers: tuple[ProcessFacts, ...]
    compilers: tuple[ProcessFacts, ...]

    def loaders_of(self, trainer: ProcessFacts) -> tuple[ProcessFacts, ...]:
        """The loaders that a trainer started."""
        return tuple(one for one in self.loaders if one.parent == trainer.pid)


@dataclass(frozen=True)
class Spot:
    """A thread that keeps a job waiting.

    Attributes:
        process, thread: which.
        trainer: that waits for it; the process itself if it is one.
    """

    process: ProcessFacts
    thread: ThreadFacts
    trainer: ProcessFacts


def roles_of(evidence: Evidence) -> Roles:
    """Sort the processes; each is in one group at most."""
    by_pid = {one.pid: one for one in evidence.processes}
    parents = {one.parent for one in evidence.processes}
    trainers: list[ProcessFacts] = []
    loaders: list[ProcessFacts] = []
    launchers: list[ProcessFacts] = []
    compilers: list[ProcessFacts] = []
    for one in evidence.processes:
        parent = by_pid.get(one.parent)
        if program(one) in _COMPILERS:
            compilers.append(one)
        elif any(word in " ".join(one.command) for word in _HELPERS):
            continue
        elif role_of(one) == STARTER:
            continue  # of a trainer, and has its command
        elif is_loader(one) or (parent in trainers + loaders and _is_python(one)):
            loaders.append(one)
        elif parent in trainers + loaders + compilers:
            continue  # a program that a trainer started: git, nvidia-smi, a tracker's service
        elif one.pid in parents and is_launcher(one):
            launchers.append(one)
        else:
            trainers.append(one)
    # Beside a trainer, `tee` and the like only serve it.
    trainers = [one for one in trainers if _is_python(one)] or trainers
    if not trainers and evidence.processes:
        trainers = [evidence.processes[0]]
        launchers = [one for one in launchers if one.pid != trainers[0].pid]
    return Roles(tuple(trainers), tuple(loaders), tuple(launchers), tuple(compilers))


def program(process: ProcessFacts) -> str:
    """The name of what runs: '/usr/bin/g++' -> 'g++'."""
    return PurePosixPath(process.command[0]).name if process.command else ""


def who(process: ProcessFacts) -> str:
    """'worker 2 of 4', 'process 4242'."""
    return process.role or f"process {process.pid}"


def is_loader(process: ProcessFacts) -> bool:
    """Whether its stack is that of a torch DataLoader's worker."""
    return any(find_frame(one, "torch/utils/data/_utils/worker") for one in process.threads)


def _is_python(process: ProcessFacts) -> bool:
    ended = process.main_thread.state in ("Z", "X")
    return ended or program(process).startswith(("python", "pypy", "pt_")) or _has_stack(process)


def _has_stack(process: ProcessFacts) -> bool:
    return any(innermost(one) for one in process.threads)


def is_launcher(process: ProcessFacts) -> bool:
    """Whether it waits for processes that it started, rather than for their data."""
    main = process.main_thread
    if waits_for_data(process) or in_collective(process):
        return False
    if wait_of(main) is Wait.CHILD or not _is_python(process):
        return True
    return any(is_in(frame, *_STARTERS) for frame in main.frames)


def waits_for_data(process: ProcessFacts) -> bool:
    """Whether its main thread waits for what other processes produce."""
    frames = process.main_thread.frames
    if process.main_thread.cpu >= BUSY:
        return False  # not by its state: who polls is caught running now and then
    if find_frame(process.main_thread, "torch/utils/data/_utils/worker"):
        return False
    if any(is_in(frame, *_DATA_WAITS) for frame in frames):
        return True
    # A pool of processes has a thread that collects the results.
    pool = any(find_frame(one, "concurrent/futures/process") for one in process.threads)
    return pool and find_frame(process.main_thread, "concurrent/futures/_base") is not None


def in_collective(process: ProcessFacts) -> bool:
    """Whether a thread of it waits for other workers."""
    return collective_thread(process) is not None


def collective_thread(process: ProcessFacts) -> ThreadFacts | None:
    """The main thread, if it waits for other workers."""
    main = process.main_thread
    if any(is_in(frame, *COLLECTIVES) for frame in main.frames):
        return main
    called = (frame.function for frame in main.frames if not frame.file)
    return main if any(part in one for one in called for part in _COLLECTIVE_SYMBOLS) else None


def spots(evidence: Evidence) -> tuple[Spot, ...]:
    """The threads that keep the job waiting, found by following the waits.

    A trainer in a collective waits for the others, a main thread at a lock for the threads of its
    process, one that takes a batch for its loaders. What waits for nobody is a spot.
    """
    roles = roles_of(evidence)
    alive = [one for one in roles.trainers if one.main_thread.state not in ("Z", "X")]
    arrived = [one for one in alive if in_collective(one)]
    late = [one for one in alive or roles.trainers if one not in arrived]
    return tuple(spot for one in late or arrived for spot in _spots_of(one, roles))


def _spots_of(trainer: ProcessFacts, roles: Roles) -> Iterator[Spot]:
    loaders = roles.loaders_of(trainer)
    if loaders and waits_for_data(trainer):
        working = [one for one in loaders if not is_idle_loader(one)]
        for one in working or loaders:
            for thread in working_threads(one):
                yield Spot(one, thread, trainer)
        return
    for thread in working_threads(trainer):
        yield Spot(trainer, thread, trainer)


def is_idle_loader(process: ProcessFacts) -> bool:
    """Whether a loader waits to be asked for a batch."""
    asked = find_frame(process.main_thread, "multiprocessing/queues", functions=("get",))
    loop = find_frame(process.main_thread, "torch/utils/data/_utils/worker")
    pools = ("multiprocessing/pool", "concurrent/futures/process")
    pool = find_frame(process.main_thread, *pools, functions=("worker", "_process_worker"))
    frame = innermost(process.main_thread)
    waits = bool(frame and is_in(frame, "multiprocessing/queues", "multiprocessing/connection"))
    return bool(asked and (loop or pool)) and waits


def working_threads(process: ProcessFacts) -> tuple[ThreadFacts, ...]:
    """The main thread; or, if that waits at a lock, the threads that do something."""
    main = process.main_thread
    waits = (Wait.LOCK, Wait.GIL, Wait.EVENTS)  # a loop of events waits for its threads, too
    if wait_of(main) not in waits:
        return (main,)
    idle = waits if wait_of(main) is Wait.EVENTS else waits[:2]
    busy = tuple(one for one in others_of(process) if wait_of(one) not in idle)
    return busy or (main,)


def others_of(process: ProcessFacts) -> tuple[ThreadFacts, ...]:
    """The threads with Python code other than the main one, without those that always wait."""
    return tuple(
        one
        for one in process.threads
        if one is not process.main_thread and innermost(one) and not is_service(one)
    )


def computes(process: ProcessFacts) -> bool:
    """Whether a process uses the CPU in earnest."""
    return process.cpu >= BUSY


def waits_at_lock(thread: ThreadFacts) -> bool:
    """Whether a thread waits for another one of its process."""
    return wait_of(thread) is Wait.LOCK or (wait_of(thread) is Wait.NATIVE and is_lock_wait(thread))
