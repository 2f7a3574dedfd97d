"""Facts of a plan and a receipt: one line, and a table for notebooks."""

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from headway.base.units import count, learning_rate, plural, seconds, short_count, size

if TYPE_CHECKING:
    from headway.runs.plan import Plan
    from headway.runs.receipt import Loss, Receipt

Facts = Sequence[tuple[str, str]]


def plan_line(plan: "Plan") -> str:
    """What a plan would do, in one line."""
    steps, data = plan.steps, plan.data
    parts = [
        f"{plan.name}: {plural(steps.num, 'step')} of {plural(steps.batch_size, 'row')}",
        f"{count(data.trained_tokens)} tokens to train",
        f"{_model(plan)}",
    ]
    if plan.time.seconds is not None:
        parts.append(f"about {seconds(plan.time.seconds)}")
    warnings = sum(finding.kind in ("warning", "adjusted") for finding in plan.findings)
    return " · ".join([*parts, *([plural(warnings, "note")] if warnings else [])])


def plan_facts(plan: "Plan") -> Facts:
    """The decisions of a plan that a person looks for first."""
    data, steps, rows = plan.data, plan.steps, plan.data.rows
    time_s, rate = plan.time.seconds, learning_rate(plan.learning.peak)
    return [
        ("data", f"{', '.join(data.sources[:3])} · {plural(data.records.accepted, 'record')}"),
        ("rows", f"{count(rows.planned)} planned · {count(rows.held_out)} held out"),
        ("tokens", f"{count(data.trained_tokens)} of {count(data.tokens)} trained"),
        ("model", _model(plan)),
        ("steps", f"{count(steps.num)} · global {count(steps.first)} -> {count(steps.last)}"),
        ("batch", f"{plural(steps.batch_size, 'row')} of up to {count(data.max_length)} tokens"),
        ("learning", f"{plan.learning.optim} at {rate}, {plan.learning.schedule}"),
        ("memory", f"{size(plan.memory.peak)} at its peak"),
        ("time", "not measured yet" if time_s is None else f"about {seconds(time_s)}"),
        *((finding.kind, finding.what) for finding in plan.findings if finding.kind != "ok"),
    ]


def receipt_facts(receipt: "Receipt") -> Facts:
    """The verdicts of a receipt, and the numbers behind them."""
    rows, steps, learned = receipt.rows, receipt.steps, receipt.learning_facts
    verdicts = ("contract", receipt.contract), ("learning", receipt.learning)
    losses = ("training loss", learned.train_probe), ("held-out loss", learned.held_out)
    saved = receipt.checkpoint
    return [
        *((name, " · ".join([one.verdict, *one.reasons])) for name, one in verdicts),
        ("rows", f"{count(rows.trained)} of {count(rows.planned)} planned rows trained"),
        ("steps", f"{count(steps.applied)} of {count(steps.planned)}"),
        *((name, _change(loss)) for name, loss in losses if loss),
        ("time", seconds(receipt.time.total)),
        ("speed", f"{count(receipt.speed.trained_tokens_per_second)} trained tokens/s"),
        ("saved", f"{saved.name} · {size(saved.bytes)}" if saved else "nothing"),
    ]


def html_table(title: str, facts: Facts) -> str:
    """A table of facts; every text is escaped, as names and reasons come from files."""
    rows = "".join(
        f'<tr><th style="text-align:left">{escape(label)}</th>'
        f'<td style="text-align:left">{escape(text)}</td></tr>'
        for label, text in facts
    )
    return f"<table><caption>{escape(title)}</caption><tbody>{rows}</tbody></table>"


def row_counts(planned: int, applications: int) -> str:
    """How often so many rows were trained: '19,900 rows once each'."""
    noun = "row" if planned == 1 else "rows"
    if applications == planned:
        return f"{planned:,} {noun} once each"
    times, more = divmod(applications, planned)
    if not more:
        return f"{planned:,} {noun} {times:,} times each"
    return f"{planned - more:,} {noun} {_times(times)}, {more:,} {_times(times + 1)}"


def _times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number:,} times")


def _model(plan: "Plan") -> str:
    parameters = short_count(plan.model.parameters)
    trained = "" if plan.model.trainable == plan.model.parameters else " · adapters"
    return f"{plan.model.name} ({parameters} parameters){trained}"


def _change(loss: "Loss") -> str:
    return f"{loss.before:.3g} -> {loss.after:.3g} on {plural(loss.rows, 'row')}"
