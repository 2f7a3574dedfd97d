"""Computing: work that takes long but makes progress, compilers among it."""

from headway.base.errors import Remedy
from headway.base.pulse import PulseReading
from headway.base.units import plural, seconds
from headway.diagnose.causes.roles import Spot, program, roles_of, spots, who
from headway.diagnose.causes.row import CauseRow, diagnosis
from headway.diagnose.causes.stacks import find_frame, is_native, own_frame, where, where_is
from headway.diagnose.causes.waits import BUSY, Wait, wait_of
from headway.diagnose.diagnosis import Diagnosis, StallCause
from headway.diagnose.evidence.facts import Evidence, GpuFacts, ThreadFacts

_FRESH_S = 2.0  # age of a pulse that is still beating
_COMPILER_CODE = (
    *("torch/_inductor", "torch/_dynamo", "torch/_functorch", "torch/fx/experimental"),
    *("triton/compiler", "triton/runtime/build", "torch/utils/cpp_extension", "jax/_src/compiler"),
    *("jax/_src/interpreters", "tensorflow/python/eager/polymorphic_function", "numba/core"),
)
_GPU_WAITS = (
    "cudaStreamSynchronize",
    "cudaDeviceSynchronize",
    "cuStreamSynchronize",
    "cuCtxSynchronize",
    "cudaEventSynchronize",
    "cuEventSynchronize",
    "cudaMemcpy",
    "hipStreamSynchronize",
    "hipDeviceSynchronize",
)
_BUSY_GPU = 0.3


def find_healthy(evidence: Evidence) -> Diagnosis | None:
    """All workers have just shown progress."""
    pulses = evidence.pulses
    if not pulses or evidence.missing or evidence.silent_s >= 1:
        return None
    if any(one.main_thread.state in ("T", "t", "Z") for one in roles_of(evidence).trainers):
        return None
    if not all(_beats(one, evidence) for one in pulses):
        return None
    step = min(one.step for one in pulses)
    return diagnosis(
        StallCause.HEALTHY,
        f"making progress: {plural(len(pulses), 'worker')}, {pulses[0].phase}"
        + (f", step {step:,} of {pulses[0].steps:,}" if pulses[0].steps else ""),
        have="the oldest sign of life is "
        f"{seconds(max(evidence.now_s - one.updated for one in pulses))} old",
        need="nothing",
    )


def _beats(pulse: PulseReading, evidence: Evidence) -> bool:
    waits = bool(pulse.waiting) and evidence.now_s - pulse.waiting_since > _FRESH_S
    return evidence.now_s - pulse.updated <= max(_FRESH_S, 2 * evidence.watched_s) and not waits


def find_compiling(evidence: Evidence) -> Diagnosis | None:
    """Code is being compiled, in the process itself or in compilers it has started."""
    compilers = [one for one in roles_of(evidence).compilers if one.main_thread.state != "Z"]
    running = [one for one in compilers if one.cpu > 0.01] or compilers
    spot = next((one for one in spots(evidence) if _compiles(one.thread)), None)
    if not running and spot is None:
        return None
    named = ", ".join(dict.fromkeys(program(one) for one in running))
    place = f"{where_is(spot.thread)}" if spot else f"process {running[0].parent}"
    used = sum(one.cpu for one in (*running, *((spot.process,) if spot else ())))
    return diagnosis(
        StallCause.COMPILING,
        "it compiles code" + (f" ({named})" if named else " (torch.compile)"),
        have=f"{place}; {used:.1f} cores used",
        need="patience: the first steps, and each new shape, take seconds to minutes",
        remedies=(
            Remedy(
                "TORCHINDUCTOR_CACHE_DIR=$HOME/.cache/inductor",
                "before the command: the next start reuses the compiled code",
            ),
            Remedy("TORCH_LOGS=recompiles", "before the command: shows why it recompiles"),
            Remedy("TORCH_COMPILE_DISABLE=1", "before the command: runs without compiling"),
        ),
        pid=spot.process.pid if spot else running[0].parent,
    )


def _compiles(thread: ThreadFacts) -> bool:
    outer = find_frame(thread, *_COMPILER_CODE)
    if outer is None:
        return False
    # Compiled code runs below torch._dynamo's eval_frame, too.
    wrappers = (
        "_fn",
        "__call__",
        "_wrapped_call",
        "inner",
        "forward",
        "runtime_wrapper",
        "g",
        "apply",
        "call_func_at_runtime_with_args",
        "boxed",
        "wrapper",
        "_call_impl",
    )
    frames = [frame for frame in thread.frames if not is_native(frame)]
    inside = [one for one in frames if find_frame(ThreadFacts(0, frames=(one,)), *_COMPILER_CODE)]
    return any(one.function.rpartition(".")[2] not in wrappers for one in inside)


def find_computing(evidence: Evidence) -> Diagnosis | None:
    """It uses the CPU or a GPU: that takes long, but is not a stall as far as can be seen."""
    for spot in spots(evidence):
        gpu = _gpu_of(evidence, spot)
        if wait_of(spot.thread) is not Wait.RUNS and spot.process.cpu < BUSY and gpu is None:
            continue
        loads = spot.process is not spot.trainer
        for_whom = f"; {who(spot.trainer)} waits for it" if loads else ""
        where_to = (
            f"GPU {gpu.index} is busy {gpu.busy:.0%} of the time" if gpu else "no GPU is busy"
        )
        return diagnosis(
            StallCause.COMPUTING,
            f"{who(spot.process)} computes in {where_is(spot.thread)}",
            have=f"{spot.process.cpu:.1f} of {evidence.machine.cores} cores used; {where_to}"
            + for_whom
            + _silence(evidence),
            need="patience, if that code is supposed to take long",
            remedies=(
                Remedy(
                    f"py-spy top --pid {spot.process.pid}", "shows which functions take the time"
                ),
                Remedy(
                    f"py-spy dump --pid {spot.process.pid}",
                    "twice: the same line both times means an endless loop or one long call",
                ),
            ),
            pid=spot.process.pid,
        )
    return None


def _gpu_of(evidence: Evidence, spot: Spot) -> GpuFacts | None:
    """The GPU that a process keeps busy, or waits for."""
    waits = any(
        frame.function.startswith(_GPU_WAITS) for frame in spot.thread.frames if not frame.file
    )
    return next(
        (
            gpu
            for gpu in evidence.machine.gpus
            if gpu.busy >= _BUSY_GPU and (spot.process.pid in gpu.pids or (waits and not gpu.pids))
        ),
        None,
    )


def _silence(evidence: Evidence) -> str:
    return f"; silent for {seconds(evidence.silent_s)}" if evidence.silent_s >= 1 else ""


def unknown(evidence: Evidence) -> Diagnosis:
    """What is known where no row fits; nothing is guessed."""
    if not evidence.processes:
        return diagnosis(
            StallCause.UNKNOWN,
            "there is no such process",
            have="it ended before it could be examined",
            need="a running process",
            remedies=(Remedy("headway runs", "lists what runs"),),
        )
    found = spots(evidence)
    spot = found[0] if found else None
    process = spot.process if spot else evidence.processes[0]
    thread = spot.thread if spot else process.main_thread
    kernel = thread.call or thread.wait_channel
    have = f"{where_is(thread)}; state {thread.state}" + (f", in {kernel}" if kernel else "")
    have += f"; {process.cpu:.1f} cores used" + _silence(evidence)
    if process.unread:
        have += f"; {process.unread}"
    return diagnosis(
        StallCause.UNKNOWN,
        f"{who(process)} waits in {where(own_frame(thread))}: no known cause fits"
        if thread.frames
        else f"{who(process)} waits: no known cause fits",
        have=have,
        need="what it waits for",
        remedies=(
            Remedy(f"headway diagnose --pid {process.pid} --verbose", "shows all stacks"),
            Remedy(
                f"headway diagnose --pid {process.pid} --bundle stall.tar.gz",
                "writes a file for a report",
            ),
        ),
        pid=process.pid,
    )


def find_unknown(evidence: Evidence) -> Diagnosis | None:
    """Always: the last row."""
    return unknown(evidence)


HEALTHY = CauseRow(
    StallCause.HEALTHY,
    find_healthy,
    "every worker's pulse is at most 2 seconds old, and none waits",
    "nothing",
)
COMPILING = CauseRow(
    StallCause.COMPILING,
    find_compiling,
    "a thread is in torch's compiler, or a compiler (`g++`, `ptxas`, ...) runs below it",
    "wait; `TORCHINDUCTOR_CACHE_DIR`, `TORCH_LOGS=recompiles`, `TORCH_COMPILE_DISABLE=1`",
)
COMPUTING = CauseRow(
    StallCause.COMPUTING,
    find_computing,
    "the thread that should be working uses the CPU, or its GPU is busy",
    "wait; `py-spy top` shows where the time goes",
)
UNKNOWN = CauseRow(
    StallCause.UNKNOWN,
    find_unknown,
    "no other row fits",
    "`headway diagnose --verbose`, `--bundle`",
)
