"""The process that answers: its answer, its refusal, its death, Ctrl+C."""

import signal
from pathlib import Path
from typing import Any

import pytest

from headway.base.errors import Cause, MachineError, OurBug, UsageError
from headway.supervise import inference, request_process
from headway.supervise.inference import run_inference
from headway.training.inference.request import InferenceRequest, InferenceResult

ANSWER = """
import os, signal, sys
import msgspec
from pathlib import Path
from headway.base.errors import Cause, UsageError
from headway.base.process import accept_stops, report_refusal, send_answer
from headway.training.inference.request import SCREEN_IS_FREE, Evaluation, InferenceRequest
from headway.training.inference.request import InferenceResult

request = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=InferenceRequest)
match request.prompt:
    case "free":
        import time
        end_s = time.monotonic() + 60
        while not Path(sys.argv[1]).with_name(SCREEN_IS_FREE).exists():
            assert time.monotonic() < end_s
            time.sleep(0.01)
        send_answer(InferenceResult(evaluation=Evaluation(1.0, 0.1, 2.7, None, 3, 4)))
    case "answer":
        send_answer(InferenceResult(evaluation=Evaluation(1.0, 0.1, 2.7, None, 3, 4)))
    case "refuse":
        report_refusal(UsageError("no turns", cause=Cause.TEMPLATE_INVALID))
        sys.exit(2)
    case "fail":
        raise ValueError("broken")
    case word:
        accept_stops()
        os.kill(os.getpid(), getattr(signal, word))
"""


@pytest.fixture(autouse=True)
def answering(tmp_path: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the process that loads a model."""
    (tmp_path / "standin.py").write_text(ANSWER)
    monkeypatch.syspath_prepend(str(tmp_path))
    import os

    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    real = request_process.ChildProcess

    def child(_module: str, *given: Any, **options: Any) -> Any:
        return real("standin", *given, **options)

    monkeypatch.setattr(request_process, "ChildProcess", child)
    return tmp_path


def ask(word: str) -> Any:
    return run_inference(InferenceRequest("eval", "", prompt=word), lambda *_: None)


def test_an_answer_comes_back_and_nothing_is_left(answering: Path) -> None:
    waited: list[Path] = []
    request = InferenceRequest("eval", "", prompt="answer")
    found = run_inference(request, lambda _, pulse: waited.append(pulse)).evaluation
    assert found is not None
    assert (found.loss, found.tokens) == (1.0, 4)
    assert [path.name for path in waited] == ["request.pulse"]
    assert list((answering / "live").iterdir()) == []


def test_a_refusal_comes_back_as_it_was() -> None:
    with pytest.raises(UsageError, match="no turns") as refused:
        ask("refuse")
    assert refused.value.cause is Cause.TEMPLATE_INVALID


def test_a_death_is_explained() -> None:
    with pytest.raises(OurBug, match="headway eval failed: ValueError: broken"):
        ask("fail")
    with pytest.raises(MachineError) as refused:
        ask("SIGKILL")
    assert refused.value.cause is Cause.PROCESS_KILLED


def test_ctrl_c_before_the_answer_interrupts() -> None:
    with pytest.raises(KeyboardInterrupt):
        ask(signal.SIGINT.name)


def test_ctrl_c_while_it_answers_waits_for_the_end_of_the_answer() -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    request = InferenceRequest("eval", "", prompt="answer")
    assert run_inference(request, interrupted).evaluation is not None


def test_the_answer_is_told_when_the_screen_is_free() -> None:
    assert ask("free").evaluation is not None


@pytest.mark.parametrize(("kind", "is_apart"), [("recall", True), ("eval", False), ("chat", False)])
def test_only_what_measures_a_checkpoint_can_come_from_a_server(
    kind: Any, is_apart: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def ask_child(*_: Any, **options: Any) -> InferenceResult:
        asked.append(options)
        return InferenceResult()

    monkeypatch.setattr(inference, "ask_child", ask_child)
    run_inference(InferenceRequest(kind, ""), lambda *_: None)
    (options,) = asked
    assert options["is_apart"] is is_apart
    # The variables of a trainer's server, whose children have them, too.
    assert (options["environment"] == {"HF_HUB_OFFLINE": "1"}) is is_apart
