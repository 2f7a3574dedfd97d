"""Request process: a child that imports torch for one request, and answers it."""

import contextlib
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from headway.base.errors import Exit
from headway.base.process import ChildProcess
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
            descriptors=descriptors,
            own_session=False,  # it may read from the terminal, and Ctrl+C ends it
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
