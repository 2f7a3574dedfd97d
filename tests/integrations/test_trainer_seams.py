"""Trainer seams: the Trainer is found in the stack, and its methods do what they did."""

import inspect
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.integrations.trainers import make_trainer, rows
from transformers import Trainer, TrainerCallback

from headway.integrations.trainer_seams import Calling, TrainerSeams, find_trainer


class Spectator:
    def __init__(self) -> None:
        self.seen: list[str] = []
        self.error: BaseException | None = None

    @contextmanager
    def _during(self, name: str) -> Generator[None]:
        self.seen.append(name)
        yield

    def waiting(self) -> Any:
        return self._during("waiting")

    def computing(self, inputs: object) -> Any:
        assert isinstance(inputs, dict)
        assert "labels" in inputs
        return self._during("computing")

    def batch_done(self, loss: Any) -> None:
        self.seen.append(f"loss {loss.dim()}")

    def grad_norm_known(self, norm: Any) -> None:
        self.seen.append(f"norm {float(norm) > 0}")

    def saving(self) -> Any:
        return self._during("saving")

    def evaluating(self) -> Any:
        return self._during("evaluating")

    def raised(self, error: BaseException) -> None:
        self.error = error


class Watching(TrainerCallback):
    """Opens the seams as the callback does, within `on_train_begin`."""

    def __init__(self) -> None:
        self.spectator = Spectator()
        self.calling: Calling | None = None
        self.seams: TrainerSeams | None = None

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.calling = find_trainer(inspect.currentframe())
        assert self.calling is not None
        self.seams = TrainerSeams(self.calling.trainer, self.spectator)


def test_everything_that_passes_is_seen_in_its_order(tmp_path: Path) -> None:
    watching = Watching()
    trainer = make_trainer(
        tmp_path,
        watching,
        rows(8),
        num_train_epochs=1,
        gradient_accumulation_steps=2,
        eval_dataset=rows(4),
        eval_strategy="epoch",
        save_strategy="epoch",
    )
    trainer.train()
    batch = ["computing", "loss 0"]
    assert watching.spectator.seen == [
        "waiting",
        *batch,
        *batch,
        "norm True",
        "evaluating",
        "saving",
    ]
    assert watching.calling == Calling(trainer, "")
    assert watching.spectator.error is None


def test_closed_the_trainer_is_as_it_was(tmp_path: Path) -> None:
    trainer, spectator = make_trainer(tmp_path, None, rows(4)), Spectator()

    def own(*args: Any, **named: Any) -> Any:
        return Trainer.training_step(trainer, *args, **named)

    trainer.training_step = own  # somebody else's wrapper
    before = dict(vars(trainer))
    seams = TrainerSeams(trainer, spectator)
    assert {"training_step", "get_batch_samples", "_run_epoch", "evaluate"} <= seams.names
    assert trainer.training_step is not own
    seams.close()
    seams.close()
    assert vars(trainer) == before


def test_the_checkpoint_that_is_resumed_from_is_known(tmp_path: Path) -> None:
    make_trainer(tmp_path, None, rows(8), save_strategy="epoch", num_train_epochs=1).train()
    watching = Watching()
    trainer = make_trainer(tmp_path, watching, rows(8))
    trainer.train(resume_from_checkpoint=True)
    assert watching.calling is not None
    assert Path(watching.calling.checkpoint).name == "checkpoint-2"


def test_what_it_raises_is_told_and_goes_on(tmp_path: Path) -> None:
    class Breaks(Trainer):
        def evaluation_loop(self, *_: Any, **__: Any) -> Any:
            raise ZeroDivisionError

    watching = Watching()
    trainer = make_trainer(
        tmp_path, watching, rows(8), kind=Breaks, eval_dataset=rows(4), eval_strategy="epoch"
    )
    with pytest.raises(ZeroDivisionError):
        trainer.train()
    assert isinstance(watching.spectator.error, ZeroDivisionError)


def test_an_evaluation_of_the_person_that_raises_ends_no_run(tmp_path: Path) -> None:
    trainer, spectator = make_trainer(tmp_path, None, rows(8)), Spectator()
    TrainerSeams(trainer, spectator)
    with pytest.raises(ValueError, match="eval_dataset"):
        trainer.evaluate()
    assert spectator.error is None


def test_what_is_no_trainer_is_not_taken_for_one() -> None:
    class Other:
        def call(self) -> Calling | None:
            return find_trainer(inspect.currentframe())

    assert Other().call() is None
