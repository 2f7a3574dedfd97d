"""generate, chat and eval: what is asked of which checkpoint."""

from pathlib import Path

import pytest
from tests.ui.fixtures import conversations_plan

from headway.base.errors import Cause, UsageError
from headway.commands.inference import evaluation_lines, inference_request, run_and_data
from headway.training.inference.request import Evaluation


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "support-b"
    folder.mkdir()
    conversations_plan().save(folder)
    return tmp_path


def test_eval_takes_a_first_word_that_names_a_run(runs: Path) -> None:
    assert run_and_data(["support-b", "a.txt"], runs) == ("support-b", ("a.txt",))
    assert run_and_data(["a.txt", "b.txt"], runs) == (None, ("a.txt", "b.txt"))
    folder = str(runs / "support-b")
    assert run_and_data([folder, "a.txt"], Path("elsewhere")) == (folder, ("a.txt",))


@pytest.mark.parametrize("words", [[], ["support-b"]])
def test_eval_without_data_says_what_to_type(runs: Path, words: list[str]) -> None:
    with pytest.raises(UsageError) as refused:
        run_and_data(words, runs)
    assert refused.value.cause is Cause.MISSING_ARGUMENT
    assert refused.value.remedies[0].do == " ".join(["headway eval", *words, "other.txt"])


def test_a_run_without_a_checkpoint_cannot_be_asked(runs: Path) -> None:
    with pytest.raises(UsageError, match="no usable checkpoint") as refused:
        inference_request("generate", "support-b", runs, {})
    assert refused.value.cause is Cause.NO_CHECKPOINT


class Found:
    """A run with a checkpoint."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def newest_verified(self) -> tuple["Found", list[str]]:
        return self, []

    def plan(self) -> None:
        return None


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("headway.runs.folder.find_run", lambda *_: Found(tmp_path))
    return tmp_path


def test_options_are_numbers(checkpoint: Path) -> None:
    options = {"max_tokens": "4", "temperature": "0", "top_k": "1", "seed": "7"}
    request = inference_request("generate", None, Path("runs"), options, prompt="The")
    assert request.checkpoint == str(checkpoint)
    assert (request.num_tokens, request.temperature, request.top_k) == (4, 0, 1)
    assert (request.seed, request.prompt, request.max_length) == (7, "The", 256)


@pytest.mark.parametrize(
    ("name", "value", "whole"),
    [("max_tokens", "many", True), ("top_k", "1.5", True), ("temperature", "-1", False)],
)
def test_other_values_are_refused(checkpoint: Path, name: str, value: str, whole: bool) -> None:
    with pytest.raises(UsageError) as refused:
        inference_request("chat", None, Path("runs"), {name: value})
    assert refused.value.cause is Cause.INVALID_VALUE
    assert refused.value.what.startswith(f"--{name.replace('_', '-')}: {value}")
    assert refused.value.need.startswith("a whole number") == whole


def test_an_evaluation_in_lines() -> None:
    found = Evaluation(2.0, 0.01, 7.39, 1.25, 10, 1234)
    assert evaluation_lines(found) == [
        "loss            2.0000 nats per token (± 0.0100)",
        "perplexity      7.39",
        "bits per byte   1.2500",
        "over            1,234 tokens in 10 rows",
    ]
    assert len(evaluation_lines(Evaluation(2.0, 0.01, 7.39, None, 10, 1234))) == 3
