"""Trainer facts: what is read from a real Trainer, whatever its data, model and optimizer are."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.integrations.trainers import VOCABULARY, make_trainer, rows, tiny_model
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainerState

from headway.integrations import trainer_facts
from headway.integrations.sample_rows import SampledRows
from headway.integrations.trainer_facts import (
    STATE,
    STATE_SCHEMA,
    CallbackState,
    StartFacts,
    predicts_next_token,
    read_facts,
    save_state,
)


def read(trainer: Trainer, state: TrainerState, checkpoint: str = "") -> StartFacts:
    trainer.create_optimizer_and_scheduler(max(state.max_steps, 1))
    parts = {
        "model": trainer.model,
        "optimizer": trainer.optimizer,
        "lr_scheduler": trainer.lr_scheduler,
        "train_dataloader": trainer.get_train_dataloader(),
        "processing_class": None,
    }
    return read_facts(trainer.args, state, trainer, checkpoint, parts)


def test_a_run_from_nothing(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, None, rows(18), gradient_accumulation_steps=2)
    found = read(trainer, TrainerState(max_steps=6))
    assert found.program.startswith("Trainer of transformers ")
    assert (found.first, found.target, found.planned) == (0, 6, 6)
    assert (found.rows, found.rows_per_update, found.updates_per_epoch) == (18, 8, 3)
    assert (found.epochs, found.embedding_rows, found.resumed) == (2.0, VOCABULARY, None)
    assert found.optimizer.missing == ()
    assert found.rates is not None
    assert isinstance(found.sampled, SampledRows)
    assert found.sampled.num == 18


def test_a_batch_that_was_halved_for_lack_of_memory_is_the_one_that_counts(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, None, rows(18), gradient_accumulation_steps=2)
    trainer._train_batch_size = 2
    assert read(trainer, TrainerState(max_steps=6)).rows_per_update == 4


@pytest.mark.parametrize(("step", "epoch"), [(3, 1.0), (4, 1 + 2 / 5), (5, 1 + 4 / 5)])
def test_the_epoch_of_a_step_is_what_the_trainer_writes_down(
    tmp_path: Path, step: int, epoch: float
) -> None:
    trainer = make_trainer(tmp_path, None, rows(18), gradient_accumulation_steps=2)
    found = read(trainer, TrainerState(max_steps=9, global_step=step, epoch=epoch))
    assert found.resumed is not None
    assert found.resumed.expected_epoch == pytest.approx(epoch)


def test_what_the_callback_left_in_a_checkpoint_is_read_again(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, None, rows(8))
    state = CallbackState(STATE_SCHEMA, "r", 2, 8, "f00d")
    checkpoint = tmp_path / "checkpoint-2"
    checkpoint.mkdir()
    save_state(checkpoint, state)
    found = read(trainer, TrainerState(max_steps=4, global_step=2, epoch=1.0), str(checkpoint))
    assert found.resumed is not None
    assert (found.resumed.name, found.resumed.state) == ("checkpoint-2", state)
    (checkpoint / STATE).write_text("{")
    again = read(trainer, TrainerState(max_steps=4, global_step=2, epoch=1.0), str(checkpoint))
    assert again.resumed is not None
    assert again.resumed.state is None


def test_an_optimizer_that_updates_in_the_backward_pass_hides_its_tensors(tmp_path: Path) -> None:
    class Lomo(torch.optim.SGD):
        pass

    trainer = make_trainer(tmp_path, None, rows(8))
    trainer.optimizer = Lomo(tiny_model(1).parameters(), lr=0.1)
    found = read(trainer, TrainerState(max_steps=4)).optimizer
    assert (found.missing, found.hides_gradients) == (None, True)


def test_a_gpu_is_missed_unless_it_was_declined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer_facts, "nvidia_device", lambda: "/dev/nvidia0")
    declined = make_trainer(tmp_path, None, rows(8))
    assert read(declined, TrainerState(max_steps=4)).unused_gpu == ""
    declined.args.use_cpu = False
    assert read(declined, TrainerState(max_steps=4)).unused_gpu == "/dev/nvidia0"


@pytest.mark.parametrize(
    ("given", "wanted", "known"),
    [
        ({}, "", "eval_loss"),
        ({"eval_strategy": "epoch", "metric_for_best_model": "loss"}, "eval_loss", "eval_loss"),
        ({"metric_for_best_model": "loss"}, "", "eval_loss"),  # never evaluated
        (
            {"eval_dataset": {"a": rows(2), "b": rows(2)}, "eval_strategy": "epoch"},
            "",
            "eval_b_loss",
        ),
    ],
)
def test_metrics_that_will_be_there_are_known(
    tmp_path: Path, given: dict[str, Any], wanted: str, known: str
) -> None:
    trainer = make_trainer(tmp_path, None, rows(8), **{"eval_dataset": rows(4)} | given)
    found = read(trainer, TrainerState(max_steps=4))
    assert found.wanted_metric == wanted
    assert known in (found.known_metrics or ())


def test_metrics_that_others_compute_are_not_known(tmp_path: Path) -> None:
    class More(Trainer):
        def evaluation_loop(self, *args: Any, **named: Any) -> Any:
            return super().evaluation_loop(*args, **named)

    for given in ({"kind": More}, {"compute_metrics": lambda _: {}}):
        trainer = make_trainer(tmp_path, None, rows(8), **given)
        assert read(trainer, TrainerState(max_steps=4)).known_metrics is None


def test_batches_by_length_are_not_judged_by_mixed_ones(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, None, rows(8), train_sampling_strategy="group_by_length")
    found = read(trainer, TrainerState(max_steps=4)).sampled
    assert isinstance(found, SampledRows)
    assert found.padding is None


def test_models_that_predict_the_next_token_are_told_from_others() -> None:
    from peft import LoraConfig, get_peft_model

    assert predicts_next_token(tiny_model())
    assert predicts_next_token(get_peft_model(tiny_model(), LoraConfig(target_modules=["q_proj"])))
    config = BertConfig(
        vocab_size=16,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
    )
    assert not predicts_next_token(BertForSequenceClassification(config))
