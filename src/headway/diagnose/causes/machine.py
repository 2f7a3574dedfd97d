"""Machine: stopped processes, CPU quotas, other work, and threads that hinder each other."""

from headway.base.errors import Remedy
from headway.base.host.contention import NOTABLE, SATURATED
from headway.base.units import plural
from headway.diagnose.causes.roles import roles_of, spots, who
from headway.diagnose.causes.row import CauseRow, diagnosis
from headway.diagnose.causes.stacks import innermost, where_is
from headway.diagnose.causes.waits import BUSY, FROZEN, Wait, in_foreign_code, wait_of
from headway.diagnose.diagnosis import Diagnosis, StallCause
from headway.diagnose.evidence.facts import Evidence, ProcessFacts, ThreadFacts

_SPINNERS = (  # what threads of OpenMP, MKL and BLAS are in while they wait for each other
    *("gomp_barrier", "gomp_team_barrier", "do_spin", "do_wait", "gomp_thread_start"),
    *("__kmp_wait", "__kmp_fork_barrier", "__kmp_hyper_barrier", "kmp_flag", "__kmp_launch"),
    *("blas_thread_server", "sched_yield", "omp_get_num_procs"),
)
_TOO_MANY = 2.0  # threads that want to run, for each core


def find_stopped(evidence: Evidence) -> Diagnosis | None:
    """A process was stopped by a signal, or a debugger holds it."""
    roles = roles_of(evidence)
    others = [one for one in evidence.processes if one not in roles.loaders]
    for process in (*roles.trainers, *others):
        main = process.main_thread
        if process.debugger and main.state in ("t", "T"):
            return _traced(process)
        if main.wait_channel.startswith(FROZEN):
            return _frozen(process)
        if main.state == "T":
            return diagnosis(
                StallCause.STOPPED,
                f"{who(process)} is stopped (SIGSTOP, or Ctrl+Z in its terminal)",
                have=f"process {process.pid} is in state T: the kernel runs none of its threads",
                need="SIGCONT",
                remedies=(
                    Remedy(f"kill -CONT {process.pid}", "it resumes where it stopped"),
                    Remedy("fg", "in the terminal where Ctrl+Z was pressed"),
                ),
                pid=process.pid,
            )
    return None


def _frozen(process: ProcessFacts) -> Diagnosis:
    return diagnosis(
        StallCause.STOPPED,
        f"{who(process)} is frozen by its control group",
        have=f"process {process.pid} is in {process.main_thread.wait_channel}: the kernel runs "
        "none of its threads",
        need="a control group that is thawed",
        remedies=(
            Remedy("docker unpause CONTAINER", "if it was paused"),
            Remedy(f"cat /proc/{process.pid}/cgroup", "names the group"),
        ),
        pid=process.pid,
    )


def _traced(process: ProcessFacts) -> Diagnosis:
    tracer = process.debugger
    return diagnosis(
        StallCause.STOPPED,
        f"{who(process)} is held by a debugger, process {tracer}",
        have=f"process {process.pid} is in state t: it continues when the debugger lets it",
        need="a debugger that continues or detaches",
        remedies=(
            Remedy("continue", f"in the debugger, process {tracer}"),
            Remedy(f"kill {tracer}", "ends the debugger; the process continues"),
        ),
        pid=process.pid,
    )


def find_cpu_quota(evidence: Evidence) -> Diagnosis | None:
    """The control group's CPU quota runs out."""
    work = evidence.machine.other_work
    if work is None or work.throttled < 0.5 or not _any_wants_cpu(evidence):
        return None
    return diagnosis(
        StallCause.CPU_QUOTA,
        "the CPU quota of this container is used up",
        have=f"in {work.throttled:.0%} of its periods all processes were stopped for the rest of "
        f"the period; {_cpu(evidence):.1f} cores used",
        need="a quota of as many cores as there are threads that compute",
        remedies=(
            Remedy(
                "docker update --cpus 0 CONTAINER",
                "no quota; with Kubernetes, a higher resources.limits.cpu",
            ),
            Remedy("cat /sys/fs/cgroup/cpu.max", "shows the quota and the period in microseconds"),
            Remedy(
                f"OMP_NUM_THREADS={max(1, round(_cpu(evidence)))}",
                "with fewer threads the quota lasts longer in each period",
            ),
        ),
    )


def find_busy_machine(evidence: Evidence) -> Diagnosis | None:
    """Other processes, or other virtual machines, have the cores."""
    work = evidence.machine.other_work
    if work is None or not _any_wants_cpu(evidence):
        return None
    taken = work.other_cores >= 0.5 * work.cores and work.busy + work.steal >= SATURATED
    if not taken and work.steal < 3 * NOTABLE:
        return None
    return diagnosis(
        StallCause.BUSY_MACHINE,
        "other work has the machine's cores",
        have="; ".join((*work.facts(), f"this job had {_cpu(evidence):.1f}"))
        + _where_it_is(evidence),
        need="cores that are free, or patience: it continues, more slowly",
        remedies=(
            Remedy("top -o %CPU", "shows who uses the cores"),
            Remedy("renice -n 10 -p PID", "gives this job priority over that process"),
        ),
    )


def _where_it_is(evidence: Evidence) -> str:
    found = spots(evidence)[:1]
    return "".join(f"; {who(one.process)} is in {where_is(one.thread)}" for one in found)


def find_threads_spin(evidence: Evidence) -> Diagnosis | None:
    """Threads spin while they wait for each other, on cores that others need."""
    work = evidence.machine.other_work
    for process in evidence.processes:
        spinning = _spinning(process)
        saturated = work is not None and work.busy + work.steal >= SATURATED
        crowded = (work is not None and work.other_cores >= NOTABLE) or (
            len(_running(process)) > evidence.machine.cores
        )
        taken = sum(one.cpu for one in spinning)
        if taken >= NOTABLE * evidence.machine.cores and saturated and crowded:
            return diagnosis(
                StallCause.THREADS_SPIN,
                f"{who(process)}: threads spin while they wait for each other, "
                "and other work needs the cores",
                have=f"{plural(len(spinning), 'thread')} of OpenMP or BLAS that only wait use "
                f"{taken:.1f} of {evidence.machine.cores} cores"
                + (f"; others use {work.other_cores:.1f}" if work else ""),
                need="threads that sleep while they wait",
                remedies=(
                    Remedy(
                        "OMP_WAIT_POLICY=PASSIVE GOMP_SPINCOUNT=0 KMP_BLOCKTIME=0",
                        "before the command: waiting threads leave their core",
                    ),
                    Remedy(
                        f"OMP_NUM_THREADS={max(1, evidence.machine.cores - 1)}",
                        "leaves a core to the other work",
                    ),
                ),
                pid=process.pid,
            )
    return None


def find_too_many_threads(evidence: Evidence) -> Diagnosis | None:
    """More threads want to run than there are cores, all of this job."""
    cores = evidence.machine.cores
    wanting = [(one, len(_running(one))) for one in evidence.processes]
    total = sum(num for _, num in wanting)
    if total < max(_TOO_MANY * cores, cores + 3):
        return None
    process, most = max(wanting, key=lambda pair: pair[1])
    busy = [one for one, num in wanting if num]
    each = max(1, cores // len(busy))
    return diagnosis(
        StallCause.TOO_MANY_THREADS,
        f"{total} threads of this job share {cores} cores",
        have=f"{len(busy)} processes; {who(process)} alone has {most} runnable threads",
        need=f"at most {cores} threads that compute",
        remedies=(
            Remedy(f"OMP_NUM_THREADS={each} MKL_NUM_THREADS={each}", "before the command"),
            Remedy("num_workers=0", "of the DataLoader, if its workers compute, too"),
        ),
        pid=process.pid,
    )


def _spinning(process: ProcessFacts) -> list[ThreadFacts]:
    """Threads that run and do nothing.

    Either their stack says so, or they have no Python code while the main thread is in nothing
    else: what could they compute for it?
    """
    main = process.main_thread
    in_python = innermost(main) is not None and not in_foreign_code(main)
    return [
        one
        for one in process.threads
        if wait_of(one) is Wait.RUNS and (_in_barrier(one) or (in_python and _is_helper(one)))
    ]


def _in_barrier(thread: ThreadFacts) -> bool:
    called = [frame.function for frame in thread.frames[:4] if not frame.file]
    return any(one.startswith(start) for one in called for start in _SPINNERS)


def _is_helper(thread: ThreadFacts) -> bool:
    """Whether it is one of OpenMP's: without Python code, and with no name of its own."""
    return not thread.frames and thread.name.startswith("python")


def _running(process: ProcessFacts) -> list[ThreadFacts]:
    return [one for one in process.threads if one.state == "R" or one.cpu >= BUSY]


def _any_wants_cpu(evidence: Evidence) -> bool:
    """Whether what keeps the job waiting would run if it could."""
    return any(
        wait_of(one.thread) is Wait.RUNS or one.process.cpu >= BUSY for one in spots(evidence)
    )


def _cpu(evidence: Evidence) -> float:
    return sum(one.cpu for one in evidence.processes)


STOPPED = CauseRow(
    StallCause.STOPPED,
    find_stopped,
    "a process is in state T (SIGSTOP, Ctrl+Z) or t (a debugger)",
    "`kill -CONT PID`, `fg`, or let the debugger continue",
)
CPU_QUOTA = CauseRow(
    StallCause.CPU_QUOTA,
    find_cpu_quota,
    "the control group's CPU quota is used up in half of its periods, and threads want to run",
    "`docker update --cpus`, a higher `resources.limits.cpu`, or a smaller `OMP_NUM_THREADS`",
)
BUSY_MACHINE = CauseRow(
    StallCause.BUSY_MACHINE,
    find_busy_machine,
    "other programs use half of the cores or more, or the host has given them away (steal)",
    "wait, or make room: `top`, `renice`",
)
THREADS_SPIN = CauseRow(
    StallCause.THREADS_SPIN,
    find_threads_spin,
    "threads spin in OpenMP's barriers while other threads want their cores",
    "`OMP_WAIT_POLICY=PASSIVE`, a smaller `OMP_NUM_THREADS`",
)
TOO_MANY_THREADS = CauseRow(
    StallCause.TOO_MANY_THREADS,
    find_too_many_threads,
    "the job has at least twice as many runnable threads as there are cores",
    "`OMP_NUM_THREADS=...`, fewer processes",
)
