"""Inference process: started, waited for, its answer read."""

import contextlib
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from headway.base.errors import Exit, refusal_from
from headway.base.process import ChildProcess
from headway.base.pulse import live_folder
from headway.supervise.child import death_refusal, torch_environment
from headway.training.inference.request import Evaluation, InferenceRequest, InferenceResult


def run_inference(
    request: InferenceRequest, wait: Callable[[ChildProcess, Path], None]
) -> Evaluation | None:
    """Start the process that loads the model, and wait for its answer.

    Text of the answer goes to standard output as it is written.

    Args:
        request: what is asked.
        wait: called with the process and its pulse; returns when the answer begins.

    Raises:
        Refusal: it could not answer.
        KeyboardInterrupt: Ctrl+C before there was an answer.
    """
    folder = live_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    live = Path(tempfile.mkdtemp(prefix="ask-", dir=folder))
    try:
        return _run(request, live, wait)
    finally:
        shutil.rmtree(live, ignore_errors=True)


def _run(
    request: InferenceRequest, live: Path, wait: Callable[[ChildProcess, Path], None]
) -> Evaluation | None:
    answer, pulse = live / "answer.json", live / "ask.pulse"
    question = msgspec.to_builtins(request) | {"answer": str(answer)}
    (live / "question.json").write_bytes(msgspec.json.encode(question))
    process = ChildProcess(
        "headway.training.inference.answer",
        [str(live / "question.json")],
        environment=torch_environment(),
        pulse=pulse,
        log=live / "answer.err",
        own_session=False,  # it reads from the terminal, and Ctrl+C ends the answer
    )
    try:
        with contextlib.suppress(KeyboardInterrupt):
            wait(process, pulse)
            process.wait()
        code = process.wait()
        if not answer.exists():
            if code in (Exit.INTERRUPTED, -signal.SIGINT):
                raise KeyboardInterrupt
            raise death_refusal(process, f"headway {request.kind}")
    finally:
        process.end()
    result = msgspec.json.decode(answer.read_bytes(), type=InferenceResult)
    if result.refused:
        raise refusal_from(result.refused)
    return result.evaluation
