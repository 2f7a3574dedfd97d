"""Inference launcher: starts the process, waits, reads its answer."""

import contextlib
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from headway.base.errors import Exit
from headway.base.process import ChildProcess
from headway.data.sources.descriptors import inherited
from headway.supervise.child import death_refusal, torch_environment
from headway.supervise.live.runtime_folder import LiveFolder
from headway.training.inference.request import (
    SCREEN_IS_FREE,
    InferenceRequest,
    InferenceResult,
)


def run_inference(
    request: InferenceRequest, wait: Callable[[ChildProcess, Path], None]
) -> InferenceResult:
    """Start the process that loads the model, and wait for its answer.

    Text of the answer goes to standard output as it is written.

    Args:
        request: what is asked.
        wait: called with the process and its pulse; returns when the answer begins.

    Raises:
        Refusal: it could not answer.
        KeyboardInterrupt: Ctrl+C before there was an answer.
    """
    with LiveFolder() as live:
        return _run(request, live, wait)


def _output_encoding() -> dict[str, str]:
    """Variables that let a child write to our standard output in its encoding."""
    encoding = getattr(sys.stdout, "encoding", None)
    return {"PYTHONIOENCODING": f"{encoding}:replace"} if encoding else {}


def _run(
    request: InferenceRequest, live: Path, wait: Callable[[ChildProcess, Path], None]
) -> InferenceResult:
    question, pulse = live / "question.json", live / "ask.pulse"
    question.write_bytes(msgspec.json.encode(request))
    process = ChildProcess(
        "headway.training.inference.answer",
        [str(question)],
        environment=torch_environment() | _output_encoding(),
        pulse=pulse,
        log=live / "answer.err",
        descriptors=inherited(request.data),
        own_session=False,  # it reads from the terminal, and Ctrl+C ends the answer
    )
    try:
        with contextlib.suppress(KeyboardInterrupt):
            wait(process, pulse)
            (live / SCREEN_IS_FREE).touch()
            process.wait()
        code = process.wait()
        result = process.answer(InferenceResult)
        if result is None:
            if code in (Exit.INTERRUPTED, -signal.SIGINT):
                raise KeyboardInterrupt
            raise death_refusal(process, f"headway {request.kind}")
    finally:
        process.end()
    return result
