"""HeadwayCallback on real Trainers: what trains is let alone, what does not is told."""

import json
import math
import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.integrations.trainers import (
    VOCABULARY,
    collate,
    make_trainer,
    rows,
    tiny_model,
    weights,
)
from torch.utils.data import IterableDataset
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback

from headway import HeadwayCallback
from headway.base.errors import BrokenContract, Cause, DataRefused, Refusal, UsageError
from headway.base.events import Ended, Noted, Saved, StepDone, read_events
from headway.base.lock import is_held
from headway.integrations.trainer_facts import STATE
from headway.integrations.transformers_callback import HeadwayWarning
from headway.runs.watched.watched_receipt import WatchedReceipt, load_watched_receipt
from headway.supervise.live.live_jobs import find_status

pytestmark = pytest.mark.usefixtures("runtime")


@pytest.fixture
def callback(tmp_path: Path) -> HeadwayCallback:
    return HeadwayCallback(output_dir=tmp_path / "runs", run_name="r", quiet=True)


@pytest.fixture
def warning(tmp_path: Path) -> HeadwayCallback:
    return HeadwayCallback(strict=False, output_dir=tmp_path / "runs", run_name="r", quiet=True)


def receipt_of(callback: HeadwayCallback) -> WatchedReceipt:
    assert callback.folder is not None
    assert not is_held(callback.folder / "run.lock")
    return load_watched_receipt(callback.folder)


def events(callback: HeadwayCallback, kind: type[Any]) -> list[Any]:
    assert callback.folder is not None
    log = read_events(callback.folder / "events.jsonl")
    return [entry.event for entry in log if isinstance(entry.event, kind)]


# -- healthy runs -----------------------------------------------------------------------------


def test_a_healthy_run_is_kept_and_counted(tmp_path: Path, callback: HeadwayCallback) -> None:
    data = rows(18)
    trainer = make_trainer(tmp_path, callback, data, save_strategy="steps", save_steps=5)
    trainer.train()
    receipt = receipt_of(callback)
    assert receipt.contract.verdict == "kept", receipt.contract
    assert (receipt.steps.planned, receipt.steps.applied, receipt.steps.last) == (10, 10, 10)
    assert receipt.rows.all_equally_often
    assert (receipt.rows.distinct, receipt.rows.times_most) == (18, 2)
    assert receipt.line.startswith("kept: 10 of 10 steps, 18 rows twice each")
    real = 2 * sum(len(row["input_ids"]) for row in data)
    assert (receipt.tokens.input, receipt.tokens.trained) == (real, real - 2 * 18)
    tensors = receipt.learning_facts.tensors
    assert tensors is not None
    assert tensors.trainable == tensors.changed == tensors.with_gradient
    assert receipt.checkpoint is not None
    assert set(receipt.checkpoint.sha256) == {"model.safetensors"}
    assert [event.global_step for event in events(callback, Saved)] == [5, 10]
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    steps = events(callback, StepDone)
    assert [step.loss for step in steps] == pytest.approx(logged, abs=1e-3)
    norms = [e["grad_norm"] for e in trainer.state.log_history if "grad_norm" in e]
    assert [step.grad_norm for step in steps] == pytest.approx(norms, rel=1e-5)
    assert [step.rows for step in steps] == [4, 4, 4, 4, 2] * 2
    assert find_status("r", tmp_path / "runs").state == "finished"


def test_what_trains_has_the_same_bits_without_it(tmp_path: Path) -> None:
    def noisy(batch: Any) -> dict[str, torch.Tensor]:
        made = collate(batch)
        noise = torch.rand(made["labels"].shape) < 0.2 + 0.1 * random.random()
        made["labels"][noise] = -100
        return made

    found = []
    for callback in (None, HeadwayCallback(output_dir=tmp_path / "runs", quiet=True)):
        trainer = make_trainer(tmp_path, callback, rows(18), data_collator=noisy)
        trainer.train()
        found.append(weights(trainer))
        assert "training_step" not in vars(trainer)
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_accumulation_with_a_remainder_is_counted(
    tmp_path: Path, callback: HeadwayCallback
) -> None:
    make_trainer(
        tmp_path,
        callback,
        rows(10),
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        num_train_epochs=1,
    ).train()
    assert [step.rows for step in events(callback, StepDone)] == [4, 4, 2]
    assert receipt_of(callback).line.startswith("kept: 3 of 3 steps, 10 rows once each")


class StopsAfter(TrainerCallback):
    """Stops a run after some steps."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        control.should_training_stop = state.global_step >= self.steps
        return control


def test_a_callback_that_is_added_later_works_too(tmp_path: Path, warning: HeadwayCallback) -> None:
    trainer = make_trainer(tmp_path, None, rows(8), num_train_epochs=1)
    trainer.add_callback(warning)
    trainer.train()
    assert receipt_of(warning).contract.verdict == "kept"


def test_several_runs_of_one_callback_are_several_runs(
    tmp_path: Path, callback: HeadwayCallback
) -> None:
    trainer = make_trainer(tmp_path, callback, rows(8), num_train_epochs=1)
    trainer.train()
    trainer.train()
    names = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert names == ["r", "r-2"]
    assert receipt_of(callback).run == "r-2"


def test_evaluations_are_in_the_log_and_the_line(tmp_path: Path, callback: HeadwayCallback) -> None:
    trainer = make_trainer(
        tmp_path, callback, rows(48), eval_dataset=rows(4, seed=1), eval_strategy="epoch"
    )
    trainer.train()
    receipt = receipt_of(callback)
    held_out = receipt.learning_facts.held_out
    assert held_out is not None
    logged = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    assert [held_out.before, held_out.after] == pytest.approx([logged[0], logged[-1]])
    assert f"(held out {held_out.before:.2f} -> {held_out.after:.2f})" in receipt.line


# -- false alarms -------------------------------------------------------------------------------


def test_a_first_step_without_a_learning_rate_is_no_fault(
    tmp_path: Path, callback: HeadwayCallback
) -> None:
    make_trainer(tmp_path, callback, rows(16), warmup_steps=2, num_train_epochs=1).train()
    steps = events(callback, StepDone)
    assert steps[0].learning_rate == 0.0
    assert receipt_of(callback).contract.verdict == "kept"


def test_adapters_and_what_is_frozen_on_purpose_are_no_fault(
    tmp_path: Path, callback: HeadwayCallback
) -> None:
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(tiny_model(), LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    make_trainer(tmp_path, callback, rows(16), model=model, learning_rate=1e-2).train()
    receipt = receipt_of(callback)
    assert receipt.contract.verdict == "kept", receipt.contract
    tensors = receipt.learning_facts.tensors
    assert tensors is not None
    assert tensors.trainable == tensors.changed == 8


def test_text_without_end_tokens_is_no_fault(tmp_path: Path, callback: HeadwayCallback) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", HeadwayWarning)
        make_trainer(tmp_path, callback, rows(8), num_train_epochs=1).train()


def test_stopping_early_is_no_fault(tmp_path: Path, callback: HeadwayCallback) -> None:
    trainer = make_trainer(
        tmp_path,
        callback,
        rows(32),
        eval_dataset=rows(4, seed=1),
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        learning_rate=1e-9,
        num_train_epochs=20,
    )
    trainer.add_callback(EarlyStoppingCallback(1, early_stopping_threshold=1.0))
    trainer.train()
    receipt = receipt_of(callback)
    assert (receipt.outcome, receipt.contract.verdict) == ("interrupted", "kept")
    assert receipt.steps.applied < receipt.steps.planned
    assert "stopped early" in receipt.line


def test_the_same_data_is_resumed_in_the_middle_of_an_epoch(
    tmp_path: Path, callback: HeadwayCallback
) -> None:
    given: dict[str, Any] = {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 2}
    given |= {"save_strategy": "steps", "save_steps": 3}
    first = make_trainer(tmp_path, callback, rows(18), **given)
    first.add_callback(StopsAfter(3))
    first.train()
    assert (tmp_path / "out" / "checkpoint-3" / STATE).exists()
    make_trainer(tmp_path, callback, rows(18), **given).train(resume_from_checkpoint=True)
    receipt = receipt_of(callback)
    assert receipt.contract.verdict == "kept", receipt.contract
    assert (receipt.steps.first, receipt.steps.applied, receipt.steps.last) == (3, 7, 10)


# -- before the first step ------------------------------------------------------------------------


def refused(trainer: Trainer, cause: Cause, **given: Any) -> Refusal:
    """The refusal before the first step, and no step was made."""
    before = weights(trainer)
    with pytest.raises(Refusal) as caught:
        trainer.train(**given)
    assert caught.value.cause is cause, str(caught.value)
    after = weights(trainer)
    if not given:  # a resumed one loads other weights
        assert all(torch.equal(before[name], after[name]) for name in before)
    text = str(caught.value)
    assert all(part in text for part in ("\n  have  ", "\n  need  ", "\n  try   ")), text
    return caught.value


def trained_before(folder: Path, num_rows: int, **given: Any) -> None:
    """A checkpoint of one epoch on some rows."""
    defaults: dict[str, Any] = {"save_strategy": "epoch", "num_train_epochs": 1}
    make_trainer(folder, None, rows(num_rows), **defaults | given).train()


def test_b04_r01_a_second_file_that_would_train_nothing_is_refused_with_what_works(
    tmp_path: Path, callback: HeadwayCallback
) -> None:
    trained_before(tmp_path, 16)
    second = rows(12, seed=5)
    trainer = make_trainer(tmp_path, callback, second, num_train_epochs=1)
    refusal = refused(trainer, Cause.ENDED_EARLY, resume_from_checkpoint=True)
    assert "step 4 of 3" in refusal.what
    assert not (tmp_path / "runs").exists()
    line = refusal.remedies[0].do
    given = eval(line, {"TrainingArguments": dict})  # as it would be typed
    assert given == {"max_steps": 7, "ignore_data_skip": True}
    make_trainer(tmp_path, callback, second, **given).train(resume_from_checkpoint=True)
    receipt = receipt_of(callback)
    assert receipt.line.startswith("kept: 3 of 3 steps, 12 rows once each")


def test_r04_a_run_that_would_pass_over_rows_of_other_data_is_refused_with_what_works(
    tmp_path: Path, callback: HeadwayCallback
) -> None:
    trained_before(tmp_path, 16)
    second = rows(40, seed=5)  # a target of 10: 6 updates, after the rows of 4 are skipped
    trainer = make_trainer(tmp_path, callback, second, num_train_epochs=1)
    refusal = refused(trainer, Cause.DATA_CHANGED, resume_from_checkpoint=True)
    assert "the first 16 rows of an epoch would be skipped" in refusal.have
    given = eval(refusal.remedies[0].do, {"TrainingArguments": dict})
    make_trainer(tmp_path, callback, second, **given).train(resume_from_checkpoint=True)
    assert receipt_of(callback).line.startswith("kept: 10 of 10 steps, 40 rows once each")


def test_r04_other_rows_of_the_same_number_are_noticed(
    tmp_path: Path, callback: HeadwayCallback
) -> None:
    first = make_trainer(
        tmp_path, callback, rows(16), save_strategy="steps", save_steps=2, num_train_epochs=1
    )
    first.add_callback(StopsAfter(2))
    first.train()
    trainer = make_trainer(tmp_path, callback, rows(16, seed=5), num_train_epochs=1)
    refusal = refused(trainer, Cause.DATA_CHANGED, resume_from_checkpoint=True)
    assert "as many rows as before (16), but other ones" in refusal.have


def test_b02_all_labels_masked_is_refused(tmp_path: Path, callback: HeadwayCallback) -> None:
    trainer = make_trainer(tmp_path, callback, rows(8, masked=True))
    refusal = refused(trainer, Cause.NO_USABLE_RECORDS)
    line = refusal.remedies[0].do  # can be typed
    assert set(eval(line, {"trainer": trainer}).flatten().tolist()) == {-100}


def test_b02_some_masked_rows_are_a_warning(tmp_path: Path, callback: HeadwayCallback) -> None:
    data = rows(6) + rows(2, seed=9, masked=True)
    with pytest.warns(HeadwayWarning, match="25% of the rows train nothing"):
        make_trainer(tmp_path, callback, data, num_train_epochs=1).train()
    assert [noted.finding.cause for noted in events(callback, Noted)] == [Cause.ANSWERS_CUT]


def test_l07_f29_a_learning_rate_of_zero_is_refused(
    tmp_path: Path, callback: HeadwayCallback
) -> None:
    refused(make_trainer(tmp_path, callback, rows(8), learning_rate=0.0), Cause.INVALID_VALUE)
    one = make_trainer(tmp_path, callback, rows(4), num_train_epochs=1, warmup_steps=5)
    refusal = refused(one, Cause.INVALID_VALUE)
    assert "lost to the schedule" in refusal.have


def test_l07_a_warm_up_that_is_longer_than_the_run_is_a_warning(
    tmp_path: Path, callback: HeadwayCallback
) -> None:
    with pytest.warns(HeadwayWarning, match=r"never gets above \d\.?\d*% of its peak"):
        make_trainer(tmp_path, callback, rows(16), num_train_epochs=1, warmup_steps=100).train()


def test_l04_f29_what_the_optimizer_does_not_hold_is_refused(
    tmp_path: Path, callback: HeadwayCallback
) -> None:
    model = tiny_model().requires_grad_(requires_grad=False)
    refused(make_trainer(tmp_path, callback, rows(8), model=model), Cause.NOTHING_TRAINABLE)
    other = torch.optim.AdamW(tiny_model(seed=1).parameters())
    trainer = make_trainer(tmp_path, callback, rows(8), optimizers=(other, None))
    refusal = refused(trainer, Cause.NOTHING_TRAINABLE)
    assert "of another model" in refusal.have


def test_t08_a_token_outside_the_embedding_is_refused(
    tmp_path: Path, callback: HeadwayCallback
) -> None:
    data = rows(8)
    data[3]["input_ids"][2] = VOCABULARY + 5
    trainer = make_trainer(tmp_path, callback, data)
    refusal = refused(trainer, Cause.TOKEN_OUTSIDE_EMBEDDING)
    assert "row 3 of the data" in refusal.have
    eval(refusal.remedies[0].do, {"model": trainer.model})  # can be typed
    assert trainer.model.get_input_embeddings().weight.shape[0] == VOCABULARY + 6


def test_t08_one_that_was_not_among_the_sampled_rows_is_named_when_it_comes(
    tmp_path: Path, callback: HeadwayCallback
) -> None:
    data = rows(128)
    data[1]["input_ids"][2] = VOCABULARY + 5  # every second row is looked at
    with pytest.raises(IndexError):
        make_trainer(tmp_path, callback, data).train()
    receipt = receipt_of(callback)
    assert (receipt.outcome, receipt.contract.verdict) == ("failed", "broken")
    (ended,) = events(callback, Ended)
    assert ended.finding.cause is Cause.TOKEN_OUTSIDE_EMBEDDING


def test_l10_a_metric_that_nobody_computes_is_refused(
    tmp_path: Path, callback: HeadwayCallback
) -> None:
    given: dict[str, Any] = {"eval_dataset": rows(4), "eval_strategy": "epoch"}
    given |= {"save_strategy": "epoch", "load_best_model_at_end": True}
    wrong = make_trainer(tmp_path, callback, rows(8), metric_for_best_model="accuracy", **given)
    refusal = refused(wrong, Cause.INVALID_VALUE)
    fixed = eval(refusal.remedies[0].do, {"TrainingArguments": dict})
    make_trainer(tmp_path, callback, rows(8), **fixed, **given).train()
    computed = make_trainer(
        tmp_path,
        callback,
        rows(8),
        metric_for_best_model="accuracy",
        compute_metrics=lambda _: {"accuracy": 1.0},
        **given,
    )
    computed.train()
    assert any("accuracy" in line for line in receipt_of(callback).not_seen)


def test_t07_an_end_token_that_is_masked_everywhere_is_a_warning(
    tmp_path: Path, callback: HeadwayCallback
) -> None:
    data = rows(8)
    for row in data:
        row["input_ids"].append(2)
        row["labels"].append(-100)

    class Tokenizer:
        eos_token_id = 2

        def save_pretrained(self, *_: object) -> None: ...

    trainer = make_trainer(tmp_path, callback, data, num_train_epochs=1)
    trainer.callback_handler.processing_class = Tokenizer()
    with pytest.warns(HeadwayWarning, match="will not learn to stop"):
        trainer.train()


def test_b01_padding_is_measured_and_told(tmp_path: Path, callback: HeadwayCallback) -> None:
    def to_64(batch: Any) -> dict[str, torch.Tensor]:
        made = collate([*batch, {"input_ids": [1] * 64, "labels": [1] * 64}])
        return {name: value[:-1] for name, value in made.items()}

    with pytest.warns(HeadwayWarning, match="of the work is padding"):
        make_trainer(tmp_path, callback, rows(8), data_collator=to_64, num_train_epochs=1).train()
    tokens = receipt_of(callback).tokens
    assert tokens.padding is not None
    assert tokens.padding + (tokens.input or 0) == 8 * 64


def test_without_strict_the_same_are_warnings(tmp_path: Path, warning: HeadwayCallback) -> None:
    with pytest.warns(HeadwayWarning) as caught:
        make_trainer(tmp_path, warning, rows(8, masked=True), num_train_epochs=1).train()
    first, *_, last = (str(one.message).splitlines()[0] for one in caught)
    assert first.startswith("no token would be trained")
    assert last == "no token was trained: every label is masked"
    receipt = receipt_of(warning)
    assert receipt.contract.verdict == "broken"
    assert "no token was trained: every label is masked" in receipt.contract.reasons


def test_b_a_run_of_zero_steps_without_strict_ends_broken(
    tmp_path: Path, warning: HeadwayCallback
) -> None:
    trained_before(tmp_path, 16)
    with pytest.warns(HeadwayWarning, match="no update"):
        make_trainer(tmp_path, warning, rows(12), num_train_epochs=1).train(
            resume_from_checkpoint=True
        )
    receipt = receipt_of(warning)
    assert receipt.contract.reasons[0] == "no update was applied"
    assert find_status("r", tmp_path / "runs").exit_code == 4


def test_a_name_that_cannot_be_a_runs_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        HeadwayCallback(run_name="a/b")
    fixed = eval(caught.value.remedies[0].do, {"HeadwayCallback": HeadwayCallback})
    assert fixed.run_name


# -- in the steps -------------------------------------------------------------------------------


class Poisoned(Trainer):
    """Its third loss is not a number."""

    calls = 0

    def compute_loss(self, *args: Any, **named: Any) -> Any:
        loss = super().compute_loss(*args, **named)
        self.calls += 1
        return loss * math.nan if self.calls == 3 else loss


def test_s02_f30_an_update_that_is_not_finite_is_never_applied(
    tmp_path: Path, callback: HeadwayCallback
) -> None:
    trainer = make_trainer(tmp_path, callback, rows(32), kind=Poisoned)
    with pytest.raises(BrokenContract) as caught:
        trainer.train()
    assert caught.value.cause is Cause.NOT_FINITE
    assert all(bool(p.isfinite().all()) for p in weights(trainer).values())
    receipt = receipt_of(callback)
    assert (receipt.outcome, receipt.steps.applied) == ("failed", 2)
    assert receipt.learning_facts.nonfinite_steps == 1
    assert find_status("r", tmp_path / "runs").exit_code == 4


def test_c06_weights_that_are_not_finite_are_named_when_they_are_saved(
    tmp_path: Path, warning: HeadwayCallback
) -> None:
    trainer = make_trainer(
        tmp_path, warning, rows(16), kind=Poisoned, num_train_epochs=1, save_strategy="epoch"
    )
    with pytest.warns(HeadwayWarning) as caught:
        trainer.train()
    text = "\n".join(str(one.message) for one in caught)
    assert "loss or gradient is not finite in update 3" in text
    assert "checkpoint-4 holds weights that are not finite" in text
    receipt = receipt_of(warning)
    assert receipt.contract.verdict == "broken"
    assert receipt.checkpoint is not None
    assert receipt.checkpoint.problem


def test_f31_a_gradient_of_exactly_zero_stops_at_the_first_step(
    tmp_path: Path, callback: HeadwayCallback
) -> None:
    model = tiny_model()
    for parameter in model.parameters():
        parameter.register_hook(torch.zeros_like)
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(BrokenContract) as caught:
        make_trainer(tmp_path, callback, rows(16), model=model).train()
    assert caught.value.cause is Cause.NO_GRADIENT
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


class Idle(torch.optim.SGD):
    """Holds the right tensors and never moves them."""

    def step(self, closure: Any = None) -> None: ...


def test_l06_weights_that_do_not_move_stop_at_the_first_step(
    tmp_path: Path, callback: HeadwayCallback
) -> None:
    model = tiny_model()
    trainer = make_trainer(
        tmp_path,
        callback,
        rows(16),
        model=model,
        optimizers=(Idle(model.parameters(), lr=0.1), None),
    )
    with pytest.raises(BrokenContract) as caught:
        trainer.train()
    assert "no weight has changed after 1 update" in caught.value.what


def test_l01_tensors_without_a_gradient_are_named(
    tmp_path: Path, callback: HeadwayCallback
) -> None:
    model = tiny_model()
    model.register_parameter("spare", torch.nn.Parameter(torch.ones(3)))
    with pytest.warns(HeadwayWarning, match="1 trainable tensor of .* had no gradient"):
        make_trainer(tmp_path, callback, rows(16), model=model).train()
    receipt = receipt_of(callback)
    assert receipt.contract.verdict == "kept"
    assert receipt.learning_facts.tensors is not None
    assert receipt.learning_facts.tensors.dead == ("spare",)


# -- the end --------------------------------------------------------------------------------------


class Breaks(Trainer):
    """Raises in its third step."""

    error: BaseException = RuntimeError("the cable was pulled")
    calls = 0

    def training_step(self, *args: Any, **named: Any) -> Any:
        self.calls += 1
        if self.calls == 3:
            raise self.error
        return super().training_step(*args, **named)


def test_an_exception_goes_on_and_the_receipt_says_failed(
    tmp_path: Path, callback: HeadwayCallback
) -> None:
    trainer = make_trainer(tmp_path, callback, rows(32), kind=Breaks)
    with pytest.raises(RuntimeError, match="the cable was pulled"):
        trainer.train()
    receipt = receipt_of(callback)
    assert (receipt.outcome, receipt.steps.applied) == ("failed", 2)
    assert receipt.contract.reasons[0] == "RuntimeError: the cable was pulled"
    assert find_status("r", tmp_path / "runs").state == "failed"
    assert "training_step" not in vars(trainer)


def test_ctrl_c_is_an_interruption(tmp_path: Path, callback: HeadwayCallback) -> None:
    trainer = make_trainer(tmp_path, callback, rows(32), kind=Breaks)
    trainer.error = KeyboardInterrupt()  # type: ignore[attr-defined]
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    receipt = receipt_of(callback)
    assert (receipt.outcome, receipt.contract.verdict) == ("interrupted", "kept")
    assert find_status("r", tmp_path / "runs").exit_code == 130


class Once(IterableDataset[Any]):
    """Rows that can be read once."""

    def __init__(self, num: int) -> None:
        self.rest = iter(rows(num))

    def __iter__(self) -> Iterator[Any]:
        return self.rest


def test_d15_data_that_ends_before_the_last_step_breaks_the_contract(
    tmp_path: Path, callback: HeadwayCallback
) -> None:
    alone = {"accelerator_config": {"dispatch_batches": False}}
    with pytest.warns(HeadwayWarning, match="the data ended"):
        make_trainer(tmp_path, callback, Once(12), max_steps=9, **alone).train()
    receipt = receipt_of(callback)
    assert receipt.contract.reasons == ("3 of 9 planned updates applied: the data ended",)
    assert any("can only be read once" in line for line in receipt.not_seen)
    assert receipt.rows.in_data is None


def test_d15_where_the_trainer_itself_raises_for_it_the_run_has_failed(
    tmp_path: Path, callback: HeadwayCallback
) -> None:
    with pytest.raises(ValueError, match="does not contain any data"):
        make_trainer(tmp_path, callback, Once(12), max_steps=9).train()
    assert receipt_of(callback).outcome == "failed"


def test_what_calls_it_may_be_no_trainer(tmp_path: Path, warning: HeadwayCallback) -> None:
    """Another loop that calls callbacks shows less, and the receipt says so."""
    from transformers import TrainerControl, TrainerState

    trainer = make_trainer(tmp_path, None, rows(8))
    trainer.create_optimizer_and_scheduler(2)
    state, control = TrainerState(max_steps=2), TrainerControl()
    parts = {
        "model": trainer.model,
        "optimizer": trainer.optimizer,
        "lr_scheduler": trainer.lr_scheduler,
        "train_dataloader": trainer.get_train_dataloader(),
    }
    warning.on_train_begin(trainer.args, state, control, **parts)
    for batch in parts["train_dataloader"]:
        trainer.model(**batch).loss.backward()
        warning.on_pre_optimizer_step(trainer.args, state, control, **parts)
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()
        state.global_step += 1
        warning.on_step_end(trainer.args, state, control, **parts)
    warning.on_train_end(trainer.args, state, control, **parts)
    receipt = receipt_of(warning)
    assert (receipt.contract.verdict, receipt.learning.verdict) == ("kept", "unclear")
    assert receipt.rows.applications is None
    assert receipt.learning_facts.loss_first is None
    assert any("not a Trainer" in line for line in receipt.not_seen)


def test_a_folder_that_cannot_be_written_is_a_warning_or_raised(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    loose = HeadwayCallback(strict=False, output_dir=tmp_path / "runs", quiet=True)
    with pytest.warns(HeadwayWarning):
        make_trainer(tmp_path, loose, rows(8), num_train_epochs=1).train()
    strict = HeadwayCallback(output_dir=tmp_path / "runs", quiet=True)
    with pytest.raises(Refusal):
        make_trainer(tmp_path, strict, rows(8), num_train_epochs=1).train()


def test_the_plan_and_the_end_are_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loud = HeadwayCallback(output_dir=tmp_path / "runs")
    make_trainer(tmp_path, loud, rows(8), num_train_epochs=1, run_name="mine").train()
    lines = [line for line in capsys.readouterr().err.splitlines() if "headway" in line]
    assert lines[0].startswith("headway: mine: 2 updates of 4 rows, 8 rows of data")
    assert lines[-1] == f"headway: {receipt_of(loud).line}"
    assert json.loads((tmp_path / "runs" / "mine" / "watched.json").read_text())["facts"]


def test_data_refused_is_a_refusal_of_data(tmp_path: Path, callback: HeadwayCallback) -> None:
    with pytest.raises(DataRefused):
        make_trainer(tmp_path, callback, rows(8, masked=True)).train()
