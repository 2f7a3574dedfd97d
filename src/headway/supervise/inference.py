"""Inference launcher: starts the process, waits, reads its answer."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from headway.base.process import ChildProcess, Spawn
from headway.data.sources.descriptors import inherited
from headway.supervise.request_process import ask_child
from headway.training.inference.request import (
    SCREEN_IS_FREE,
    InferenceRequest,
    InferenceResult,
)

ANSWERS = "headway.training.inference.answer"


def run_inference(
    request: InferenceRequest,
    wait: Callable[[ChildProcess, Path], None],
    *,
    spawn: Spawn = subprocess.Popen,
) -> InferenceResult:
    """Start the process that loads the model, and wait for its answer.

    Text of the answer goes to standard output as it is written.

    Args:
        request: what is asked.
        wait: called with the process and its pulse; returns when the answer begins.
        spawn: starts the process.

    Raises:
        Refusal: it could not answer.
        KeyboardInterrupt: Ctrl+C before there was an answer.
    """

    def wait_and_free_screen(process: ChildProcess, pulse: Path) -> None:
        wait(process, pulse)
        pulse.with_name(SCREEN_IS_FREE).touch()

    is_quiet = request.kind == "recall"  # neither reads nor writes; all it needs is here
    return ask_child(
        ANSWERS,
        request,
        InferenceResult,
        wait_and_free_screen,
        doing=f"headway {request.kind}",
        environment={"HF_HUB_OFFLINE": "1"} if is_quiet else _output_encoding(),
        descriptors=inherited(request.data),
        is_apart=is_quiet,
        spawn=spawn,
    )


def _output_encoding() -> dict[str, str]:
    """Variables that let a child write to our standard output in its encoding."""
    encoding = getattr(sys.stdout, "encoding", None)
    return {"PYTHONIOENCODING": f"{encoding}:replace"} if encoding else {}
