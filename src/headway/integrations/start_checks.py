"""Start checks: facts that make a Trainer's run do nothing, or not what was meant."""

import math
from collections.abc import Callable, Iterator

from headway.base.errors import BrokenContract, Cause, DataRefused, Finding, Refusal, Remedy
from headway.base.units import count, learning_rate, plural, share
from headway.integrations.sample_rows import SampledRows
from headway.integrations.trainer_facts import StartFacts

Problem = Refusal | Finding  # a Finding is only said

_MUCH_PADDING = 0.5
_HARDLY = 0.1  # of the peak: a learning rate that never gets there
_NAMES = 3


def start_problems(facts: StartFacts) -> list[Problem]:
    """Everything that is wrong with a run, the worst first."""
    return [problem for check in CHECKS.values() for problem in check(facts)]


def not_checked(facts: StartFacts) -> tuple[str, ...]:
    """What could not be looked at, each with its reason."""
    reasons: list[str] = []
    if not isinstance(facts.sampled, SampledRows):
        reasons.append(f"labels, padding, tokens: {facts.sampled.why}")
    elif facts.sampled.trained is None:
        reasons.append("labels: the batches have none, or not one for each token")
    if facts.rates is None and facts.planned:
        reasons.append("learning rates: this scheduler does not give them in advance")
    if facts.optimizer.missing is None:
        reasons.append("optimizer: it does not show the tensors that it holds")
    if facts.wanted_metric and facts.known_metrics is None:
        reasons.append(f"{facts.wanted_metric}: only an evaluation shows whether it is computed")
    if facts.processes > 1:
        others = plural(facts.processes - 1, "other process", "other processes")
        reasons.append(f"rows, tokens and losses of {others}: each keeps them to itself")
    return tuple(reasons)


def plan_line(facts: StartFacts) -> str:
    """What the run is going to do, in one line."""
    data = f" of {plural(facts.rows_per_update, 'row')}"
    data += f", {plural(facts.rows, 'row')} of data" if facts.rows is not None else ""
    parts = [f"{plural(facts.planned, 'update')}{data}"]
    if facts.first:
        parts.append(f"global step {count(facts.first)} -> {count(facts.target)}")
    sampled = facts.sampled
    if isinstance(sampled, SampledRows) and sampled.input:
        if sampled.trained is not None:
            parts.append(f"{share(sampled.trained, sampled.input)} of the tokens trained")
        if sampled.padding_share is not None:
            parts.append(f"padding {share(sampled.padding_share)}")
    if facts.rates is not None:
        parts.append(f"learning rate up to {learning_rate(facts.rates.peak)}")
    trainable = share(facts.optimizer.parameters, facts.optimizer.all_parameters)
    parts.append(f"{trainable} of the parameters trainable")
    return " · ".join(parts)


# -- what would be done ------------------------------------------------------------------------


def _check_updates(facts: StartFacts) -> Iterator[Problem]:
    if facts.planned:
        return
    resumed = facts.resumed
    if resumed is None:
        yield BrokenContract(
            "this run would make no update",
            cause=Cause.TOO_LITTLE_DATA,
            have=f"max_steps is {facts.target}",
            need="at least 1 update",
            remedies=(Remedy("TrainingArguments(max_steps=-1)", "as many as the epochs take"),),
        )
        return
    yield BrokenContract(
        f"this run would make no update: it resumes at step {count(facts.first)} of "
        f"{count(facts.target)}",
        cause=Cause.ENDED_EARLY,
        have=f"{resumed.name or 'a checkpoint'} at step {count(facts.first)}, and "
        f"{_told_target(facts)}",
        need=f"a target above step {count(facts.first)}",
        remedies=_more_steps(facts),
    )


def _told_target(facts: StartFacts) -> str:
    if facts.epochs and facts.updates_per_epoch:
        return f"{facts.epochs:g} x {count(facts.updates_per_epoch)} updates per epoch of this data"
    return f"max_steps={facts.target}"


def _more_steps(facts: StartFacts) -> tuple[Remedy, ...]:
    """The lines that train this data once, after what was trained before."""
    per_epoch = facts.updates_per_epoch
    if per_epoch is None:
        line = f"TrainingArguments(max_steps={facts.first + 1000})"
        return (Remedy(line, "1,000 updates more"),)
    updates = math.ceil((facts.epochs or 1) * per_epoch)
    rows = plural(facts.rows, "row") if facts.rows is not None else "all rows"
    return (
        Remedy(
            f"TrainingArguments(max_steps={facts.first + updates}, ignore_data_skip=True)",
            f"{plural(updates, 'update')} on the {rows} of this data, none skipped",
        ),
        Remedy(
            "trainer.train()",
            "without resume_from_checkpoint, if the model was loaded from the checkpoint",
        ),
    )


def _check_resumed_data(facts: StartFacts) -> Iterator[Problem]:
    """A Trainer that resumes skips batches by number, whatever data they are of."""
    resumed = facts.resumed
    if resumed is None or not facts.planned or not resumed.skips_data:
        return
    if facts.updates_per_epoch is None or not (why := _other_data(facts)):
        return
    skipped = resumed.global_step % facts.updates_per_epoch
    rows = skipped * facts.rows_per_update
    yield BrokenContract(
        "this run resumes with different data, and would skip part of it",
        cause=Cause.DATA_CHANGED,
        have=f"{why}; the first {plural(rows, 'row')} of an epoch would be skipped, and "
        f"{plural(facts.planned, 'update')} made",
        need="the data and the batch size of the checkpoint, or no skipping",
        remedies=_more_steps(facts)[:1],
    )


def _other_data(facts: StartFacts) -> str:
    """How it is known that the data is not the checkpoint's; "" if it seems to be."""
    resumed, sampled = facts.resumed, facts.sampled
    assert resumed is not None
    before = resumed.state
    if before and before.rows is not None and facts.rows not in (None, before.rows):
        return f"{count(before.rows)} rows before, {count(facts.rows or 0)} now"
    now = sampled.fingerprint if isinstance(sampled, SampledRows) else ""
    if before and before.data and now and before.data != now:
        return f"as many rows as before ({count(facts.rows or 0)}), but other ones"
    expected = resumed.expected_epoch
    if expected is not None and not math.isclose(expected, resumed.epoch, abs_tol=1e-3):
        return (
            f"step {count(resumed.global_step)} was epoch {resumed.epoch:.2f} before, and is "
            f"epoch {expected:.2f} of this data and batch size"
        )
    return ""


def _check_learning_rate(facts: StartFacts) -> Iterator[Problem]:
    rates = facts.rates
    if rates is None:
        return
    if rates.peak <= 0:
        yield BrokenContract(
            f"the learning rate is 0 in every one of {plural(facts.planned, 'planned update')}",
            cause=Cause.INVALID_VALUE,
            have=f"a base rate of {learning_rate(rates.base)}, all of it lost to the schedule"
            if rates.base
            else "learning_rate=0",
            need="a learning rate above 0 in at least one update",
            remedies=(
                Remedy("TrainingArguments(warmup_steps=0)", "starts at the full rate")
                if rates.base
                else Remedy("TrainingArguments(learning_rate=5e-5)", "transformers' own default"),
            ),
        )
    elif rates.peak < _HARDLY * rates.base:
        yield Finding(
            "warning",
            f"the learning rate never gets above {share(rates.peak, rates.base)} of its peak",
            have=f"at most {learning_rate(rates.peak)} of {learning_rate(rates.base)} in "
            f"{plural(facts.planned, 'update')}",
            need="a warm-up that is shorter than the run",
            remedies=(
                Remedy(
                    f"TrainingArguments(warmup_steps={facts.planned // 10})", "a tenth of the run"
                ),
            ),
            cause=Cause.CONTRADICTION,
        )


# -- what would be trained ---------------------------------------------------------------------


def _check_trainable(facts: StartFacts) -> Iterator[Problem]:
    held = facts.optimizer
    if not held.trainable:
        yield BrokenContract(
            "nothing in this model is trainable",
            cause=Cause.NOTHING_TRAINABLE,
            have=f"{count(held.all_parameters)} parameters, all of them frozen",
            need="at least one parameter with requires_grad",
            remedies=(
                Remedy("model.requires_grad_(True)", "trains all of it"),
                Remedy("model = get_peft_model(model, LoraConfig(...))", "trains adapters"),
            ),
        )
    elif held.missing:
        num, names = len(held.missing), ", ".join(held.missing[:_NAMES])
        foreign = f", but {plural(held.foreign, 'tensor')} of another model" if held.foreign else ""
        yield BrokenContract(
            f"the optimizer does not hold {count(num)} of "
            f"{plural(held.trainable, 'trainable tensor')}",
            cause=Cause.NOTHING_TRAINABLE,
            have=f"without {names}{' and others' if num > _NAMES else ''}{foreign}",
            need="an optimizer made of this model's parameters, after they were frozen or wrapped",
            remedies=(Remedy("Trainer(..., optimizers=(None, None))", "the Trainer makes one"),),
        )


def _check_labels(facts: StartFacts) -> Iterator[Problem]:
    sampled = facts.sampled
    if not isinstance(sampled, SampledRows) or sampled.trained is None or not sampled.masked:
        return
    have = f"row {count(sampled.first_masked)} of the data is the first of them"
    remedies = (
        Remedy(
            f"trainer.data_collator([trainer.train_dataset[{sampled.first_masked}]])['labels']",
            "shows its labels",
        ),
        Remedy("a longer max_length", "if the answers are cut off"),
    )
    if sampled.masked == sampled.num:
        yield DataRefused(
            f"no token would be trained: all labels of {plural(sampled.num, 'sampled row')} are "
            "masked",
            cause=Cause.NO_USABLE_RECORDS,
            have=have,
            need="labels other than -100",
            remedies=remedies,
        )
    else:
        yield Finding(
            "warning",
            f"{share(sampled.masked, sampled.num)} of the rows train nothing: all their labels "
            "are masked",
            f"{count(sampled.masked)} of {plural(sampled.num, 'sampled row')}; {have}",
            "labels other than -100 in each row",
            remedies,
            Cause.ANSWERS_CUT,
        )


def _check_ids(facts: StartFacts) -> Iterator[Problem]:
    sampled, rows = facts.sampled, facts.embedding_rows
    if not isinstance(sampled, SampledRows) or rows is None or sampled.max_id < rows:
        return
    yield DataRefused(
        f"token {count(sampled.max_id)} is outside the model's embedding",
        cause=Cause.TOKEN_OUTSIDE_EMBEDDING,
        have=f"row {count(sampled.max_id_row)} of the data has it, the embedding has "
        f"{plural(rows, 'row')}",
        need="tokens of this model's own tokenizer, or a larger embedding",
        remedies=(Remedy(f"model.resize_token_embeddings({sampled.max_id + 1})"),),
    )


def _check_padding(facts: StartFacts) -> Iterator[Problem]:
    sampled = facts.sampled
    wasted = sampled.padding_share if isinstance(sampled, SampledRows) else None
    if wasted is not None and wasted > _MUCH_PADDING:
        yield Finding(
            "warning",
            f"{share(wasted)} of the work is padding",
            have=f"batches of {plural(facts.rows_per_update, 'row')} of very different lengths, "
            "or padded to a fixed one",
            need="rows of one length in a batch, or rows packed together",
            remedies=(
                Remedy("TrainingArguments(train_sampling_strategy='group_by_length')"),
                Remedy("tokenizer(..., padding=False)", "and DataCollatorForSeq2Seq pads less"),
            ),
            cause=Cause.SLOWER,
        )


def _check_ends(facts: StartFacts) -> Iterator[Problem]:
    sampled = facts.sampled
    if not isinstance(sampled, SampledRows) or not sampled.ends or sampled.ends_trained:
        return
    if sampled.masked == sampled.num:
        return  # said already
    yield Finding(
        "warning",
        "the end token is never trained: the model will not learn to stop",
        have=f"{plural(sampled.ends, 'sampled row')} with an end token, all of them masked",
        need="the end token among the labels",
        remedies=(
            Remedy(
                "tokenizer.add_special_tokens({'pad_token': '<pad>'})",
                "if the padding token is the end token, whose labels are masked with it",
            ),
        ),
        cause=Cause.ANSWERS_CUT,
    )


# -- where and how -----------------------------------------------------------------------------


def _check_device(facts: StartFacts) -> Iterator[Problem]:
    if facts.unused_gpu:
        yield Finding(
            "warning",
            "this run computes on the CPU, although there is a GPU",
            have=f"{facts.unused_gpu}, and a model on {facts.device}",
            need="a build of torch for this GPU and its driver",
            remedies=(
                Remedy('python -c "import torch; print(torch.version.cuda)"', "the build's CUDA"),
                Remedy("TrainingArguments(use_cpu=True)", "if you want the CPU"),
            ),
            cause=Cause.NO_DEVICE,
        )


def _check_metric(facts: StartFacts) -> Iterator[Problem]:
    known, wanted = facts.known_metrics, facts.wanted_metric
    if not wanted or known is None or wanted in known:
        return
    yield BrokenContract(
        f"no evaluation reports {wanted}: the first one would end the run",
        cause=Cause.INVALID_VALUE,
        have=f"metric_for_best_model={wanted}, and no compute_metrics",
        need=f"one of {', '.join(known[:4])}, ... or a function that computes it",
        remedies=(
            Remedy(f"TrainingArguments(metric_for_best_model='{known[0]}')"),
            Remedy("Trainer(..., compute_metrics=...)", f"that returns {wanted}"),
        ),
    )


CHECKS: dict[str, Callable[[StartFacts], Iterator[Problem]]] = {
    "updates": _check_updates,
    "trainable tensors": _check_trainable,
    "learning rates": _check_learning_rate,
    "labels": _check_labels,
    "tokens": _check_ids,
    "resumed data": _check_resumed_data,
    "metric": _check_metric,
    "end tokens": _check_ends,
    "padding": _check_padding,
    "device": _check_device,
}
