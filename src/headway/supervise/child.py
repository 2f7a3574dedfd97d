"""Trainer processes: environment, and cause of death."""

import errno
import os
import signal

from headway.base.disk import write_refusal
from headway.base.errors import Cause, Exit, MachineError, OurBug, Refusal, Remedy, refusal_from
from headway.base.host.limits import death_by_limit, this_process
from headway.base.machine import this_machine
from headway.base.process import ChildProcess
from headway.supervise import allocator, thread_waiting
from headway.supervise.live.shared_memory import is_shared_memory_full, shared_memory_full


def child_environment() -> dict[str, str]:
    """Variables for a process that uses every core; what a person set stays."""
    return {
        "OMP_NUM_THREADS": str(this_machine().cores),
        "TOKENIZERS_PARALLELISM": "true",
        "TORCHINDUCTOR_COMPILE_THREADS": "1",  # more would be processes that each import torch
        # Whether there is a GPU is then asked without CUDA, which no fork survives.
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
        **os.environ,
        "PYTHONUNBUFFERED": "1",
    }


def torch_environment(*, offline: bool = False) -> dict[str, str]:
    """Variables for a process that imports torch: the best allocator, and threads that sleep.

    Args:
        offline: nothing may be downloaded.
    """
    environment = child_environment() | thread_waiting.environment() | allocator.environment()
    return environment | ({"HF_HUB_OFFLINE": "1"} if offline else {})


_AGAIN = Remedy("the same command again", "continues from the last checkpoint")
_SIGNALS = {
    signal.SIGKILL: ", usually a sign that memory ran out",
    signal.SIGABRT: ": a library gave up, usually at the limit of its process's memory",
}


def death_refusal(child: ChildProcess, doing: str, reading: str = "") -> Refusal:
    """Why a process ended that left no answer.

    Args:
        child: it has ended.
        doing: what it was there for, as the subject of a sentence.
        reading: what it was reading, after "it was"; "" if it read nothing foreign.
    """
    message = child.last_refusal()
    if message:
        return refusal_from(message)
    code = child.exit_code or 0
    # A pulse on full shared memory ends its process with SIGBUS.
    if code in (Exit.MACHINE, -signal.SIGBUS) and is_shared_memory_full():
        return shared_memory_full()
    if code == -signal.SIGXFSZ:
        return write_refusal(OSError(errno.EFBIG, os.strerror(errno.EFBIG)))
    limit = death_by_limit(this_process(), this_machine().cores)
    if limit is not None and code != -signal.SIGKILL:
        return limit
    if code < 0:
        name = signal.Signals(-code).name
        was = f"\nit was {reading}" if reading else ""
        return MachineError(
            f"{doing} was killed by {name}",
            cause=Cause.PROCESS_KILLED,
            have=name + _SIGNALS.get(signal.Signals(-code), "") + was,
            need="a process that is allowed to finish",
            remedies=(
                *(() if code == -signal.SIGABRT else (_AGAIN,)),
                Remedy("headway doctor", "how much memory there is"),
            ),
        )
    words = child.last_words()
    return OurBug(
        f"{doing} failed: {words[-1] if words else f'exit code {code}'}",
        cause=Cause.BUG,
        have=f"exit code {code}" + (f", after {len(words)} lines of output" if words else ""),
        need="a bug report: this is a bug in Headway",
        remedies=(Remedy("the same command with --verbose", "shows the traceback"),),
    )
