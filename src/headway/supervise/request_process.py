"""Request process: a child that imports torch for one request, and answers it."""

import contextlib
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from headway.base.errors import Exit
from headway.base.process import ChildProcess, Spawn
from headway.supervise.child import death_refusal, torch_environment
from headway.supervise.live.runtime_folder import LiveFolder

T = TypeVar("T")


def ask_child(
    module: str,
    request: object,
    answer: type[T],
    wait: Callable[[ChildProcess, Path], None],
    *,
    doing: str,
    environment: Mapping[str, str] | None = None,
    descriptors: Sequence[int] = (),
    is_apart: bool = False,
    spawn: Spawn = subprocess.Popen,
) -> T:
    """Start the process, wait, and read its answer.

    Args:
        module: what it runs, with the path of a file that holds the request as JSON.
        request: what is asked.
        answer: what it answers with.
        wait: called with the process and its pulse; may return before the process ends.
        doing: what it does, as the subject of a sentence.
        environment: more variables.
        descriptors: open ones that it inherits.
        is_apart: it has no terminal, and hears of Ctrl+C from `wait` alone.
        spawn: starts it.

    Raises:
        Refusal: it could not answer.
        KeyboardInterrupt: Ctrl+C before there was an answer.
    """
    with LiveFolder() as live:
        question, pulse = live / "question.json", live / "request.pulse"
        question.write_bytes(msgspec.json.encode(request))
        process = ChildProcess(
            module,
            [str(question)],
            environment=torch_environment() | dict(environment or {}),
            pulse=pulse,
            log=live / "answer.err",
            log_stdout=is_apart,
            stdin=subprocess.DEVNULL if is_apart else None,
            descriptors=descriptors,
            own_session=is_apart,  # else it may read from the terminal, and Ctrl+C ends it
            spawn=spawn,
        )
        try:
            with contextlib.suppress(KeyboardInterrupt):
                wait(process, pulse)
                process.wait()
            code = process.wait()
            found = process.answer(answer)
            if found is None:
                if code in (Exit.INTERRUPTED, -signal.SIGINT):
                    raise KeyboardInterrupt
                raise death_refusal(process, doing)
        finally:
            process.end()
        return found
