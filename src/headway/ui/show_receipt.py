"""Receipt display: the two verdicts, the facts and the closing line."""

import statistics
from collections.abc import Callable
from typing import TYPE_CHECKING

from headway.base.units import count, plural, seconds, share, short_count, size
from headway.runs.workers import MENTIONED_IDLE
from headway.ui.styled import Style, StyledLine, fact_lines, labeled, styled
from headway.ui.text_layout import flow, loss_text, table

if TYPE_CHECKING:  # slow to import, and the first line must not wait
    from headway.runs.receipt import (
        EstimatedActual,
        Judgment,
        Loss,
        PlanAgainstActual,
        Receipt,
        ReceiptRows,
    )


IMBALANCED = 1.25  # times as long as the median of the others: a fifth of their time is a wait


def receipt_lines(receipt: "Receipt", width: int) -> list[StyledLine]:
    """The two judgments and the facts, without the closing line."""
    facts: list[tuple[str, list[str]]] = [
        ("contract", _judgment(receipt.contract)),
        ("learning", _judgment(receipt.learning)),
        ("rows", _rows(receipt.rows)),
        ("tokens", _tokens(receipt)),
        ("steps", _steps(receipt)),
        ("loss", _losses(receipt)),
        ("tensors", _tensors(receipt)),
        ("time", _time(receipt)),
        ("stalls", _stalls(receipt)),
        ("slowed by", _slowed(receipt)),
        ("speed", _speed(receipt)),
        ("workers", _workers(receipt)),
        ("saved", _saved(receipt)),
    ]
    attempts = f", {plural(receipt.attempts, 'attempt')}" if receipt.attempts > 1 else ""
    lines = styled([f"{receipt.run} {receipt.outcome}{attempts}", ""])
    for label, parts in facts:
        lines += fact_lines(label, parts, width)
    return [*lines, StyledLine(), *_estimates(receipt.plan_against_actual)]


def closing_lines(receipt: "Receipt", width: int) -> list[StyledLine]:
    """The receipt's closing line, in the color of its contract."""
    style: Style = "green" if receipt.contract.verdict == "kept" else "red"
    return styled(flow([receipt.line], width), style)


def _judgment(judgment: "Judgment") -> list[str]:
    word = {"not": "not improved"}.get(judgment.verdict, judgment.verdict)
    return [word, *judgment.reasons]


def _rows(rows: "ReceiptRows") -> list[str]:
    parts = [f"{count(rows.trained)} of {count(rows.planned)} planned rows trained"]
    if rows.applications_planned != rows.planned:
        parts.append(
            f"{count(rows.applications)} of {count(rows.applications_planned)} times in total"
        )
    parts += [f"{count(rows.missing)} missing", f"{count(rows.repeated)} repeated"]
    if rows.held_out:
        parts.append(f"{count(rows.held_out)} held out")
    if rows.replayed:
        parts.append(f"{count(rows.replayed)} of earlier runs replayed in addition")
    if rows.rejected:
        why = ", ".join(f"{count(number)} {reason}" for reason, number in rows.rejected.items())
        parts.append(f"{count(sum(rows.rejected.values()))} of {count(rows.read)} rejected ({why})")
    return parts


def _tokens(receipt: "Receipt") -> list[str]:
    tokens = receipt.tokens
    parts = [
        f"{count(tokens.trained)} of {count(tokens.input)} trained",
        f"padding {share(tokens.padding_share)}",
    ]
    if tokens.truncated:
        parts.append(f"{plural(tokens.truncated, 'conversation')} truncated")
    if tokens.shared:
        parts.append(f"{count(tokens.shared)} in shared prefixes")
    return parts


def _steps(receipt: "Receipt") -> list[str]:
    steps, learned = receipt.steps, receipt.learning_facts
    parts = [
        f"{count(steps.applied)} of {count(steps.planned)}",
        f"global {count(steps.first)} -> {count(steps.last)}",
    ]
    if learned.nonfinite_steps:
        parts.append(f"{plural(learned.nonfinite_steps, 'non-finite step')} not applied")
    return parts


def _losses(receipt: "Receipt") -> list[str]:
    learned = receipt.learning_facts
    parts = [
        *_change(learned.train_probe, "probed training"),
        *_change(learned.held_out, "held-out"),
    ]
    if learned.loss_first is not None and learned.loss_last is not None:
        first, last = loss_text(learned.loss_first), loss_text(learned.loss_last)
        parts.append(f"first step {first}, last {last}")
    return parts


def _change(loss: "Loss | None", of: str) -> list[str]:
    if loss is None:
        return []
    rows = plural(loss.rows, f"{of} row")
    spread = f" (± {loss_text(loss.spread)})"
    return [f"{loss_text(loss.before)} -> {loss_text(loss.after)} on {rows}{spread}"]


def _tensors(receipt: "Receipt") -> list[str]:
    tensors = receipt.learning_facts.tensors
    if tensors is None:
        return []
    parts = [
        f"{count(tensors.changed)} of {count(tensors.trainable)} changed",
        f"{count(tensors.with_gradient)} received gradients",
        f"weights changed by {share(tensors.relative_change)}",
    ]
    if tensors.saved is not None:
        parts.append(f"{count(tensors.saved)} saved bit for bit")
    parts += [f"not saved: {', '.join(tensors.differing)}"] if tensors.differing else []
    parts += [f"unchanged: {', '.join(tensors.unmoved)}"] if tensors.unmoved else []
    return parts + ([f"without gradients: {', '.join(tensors.dead)}"] if tensors.dead else [])


def _time(receipt: "Receipt") -> list[str]:
    time = receipt.time
    longest = sorted(time.by_phase.items(), key=lambda item: item[1], reverse=True)
    parts = [seconds(time.total)]
    parts += [f"{phase} {seconds(spent_s)}" for phase, spent_s in longest if spent_s >= 0.05]
    if time.to_first_step is not None:
        parts.append(f"first step after {seconds(time.to_first_step)}")
    if time.max_silence is not None:
        parts.append(f"longest silence {seconds(time.max_silence)}")
    if time.watching is not None:
        part = time.watching / max(time.total, 1e-9)
        parts.append(f"watching {share(part) if part >= 0.001 else 'under 0.1%'}")
    return parts


def _stalls(receipt: "Receipt") -> list[str]:
    """How often the run made no progress, for how long, and why."""
    stalls = receipt.stalls
    if stalls is None:
        return []
    causes = [
        f"{cause.replace('_', ' ')}" + (f" {count(number)} times" if number > 1 else "")
        for cause, number in stalls.causes.items()
    ]
    longest = f"{'the longest ' if stalls.number > 1 else ''}{seconds(stalls.longest)}"
    restarts = [plural(stalls.restarts, "restart")] if stalls.restarts else []
    return [count(stalls.number), longest, *causes, *restarts]


def _slowed(receipt: "Receipt") -> list[str]:
    """Other work on the machine, if it took time from the steps."""
    return receipt.time.other_work.facts() if receipt.time.other_work else []


def _speed(receipt: "Receipt") -> list[str]:
    speed = receipt.speed
    parts = [
        f"{count(speed.trained_tokens_per_second)} trained tok/s",
        f"{count(speed.tokens_per_second)} tok/s",
        f"{short_count(speed.flops_per_second)} FLOP/s",
    ]
    return parts + ([f"{share(speed.mfu)} of this machine's peak"] if speed.mfu is not None else [])


def _workers(receipt: "Receipt") -> list[str]:
    """Workers, and how evenly they shared the steps."""
    if not receipt.workers:
        return []
    num_groups = len({worker.group for worker in receipt.workers})
    rows = sorted(worker.rows for worker in receipt.workers)
    each = count(rows[0]) if rows[0] == rows[-1] else f"{count(rows[0])} to {count(rows[-1])}"
    parts = [
        f"{len(receipt.workers)} in {plural(num_groups, 'group')}",
        f"{receipt.reduction} reduction",
        f"{_range([w.computing for w in receipt.workers])} of the time computing",
        f"{_range([w.peers for w in receipt.workers])} waiting for one another",
    ]
    for name, shares in (
        ("waiting for data", [w.data for w in receipt.workers]),
        ("saving (the root)", [receipt.workers[0].saving]),
    ):
        parts += [f"{_range(shares)} {name}"] if max(shares) >= 0.005 else []
    spare = statistics.mean(worker.spare for worker in receipt.workers)
    costs = _range([worker.cost for worker in receipt.workers])
    parts += [*_imbalance(receipt), f"{each} rows each", f"{costs} of the work"]
    return parts + ([f"{share(spare)} idle for lack of it"] if spare >= MENTIONED_IDLE else [])


def _range(shares: list[float]) -> str:
    least, most = share(min(shares)), share(max(shares))
    return least if least == most else f"{least} to {most}"


def _imbalance(receipt: "Receipt") -> list[str]:
    """The worker that computed longest, if the others waited for it."""
    slowest = max(receipt.workers, key=lambda worker: worker.computing)
    usual = statistics.median(w.computing for w in receipt.workers if w is not slowest)
    if slowest.computing < IMBALANCED * usual:
        return []
    ratio = slowest.computing / max(usual, 1e-9)
    return [f"uneven: worker {slowest.rank} computed {ratio:.1f} times as long as the others"]


def _saved(receipt: "Receipt") -> list[str]:
    saved = receipt.checkpoint
    if saved is None:
        return ["nothing"]
    return [saved.name, size(saved.bytes), f"sha256 {saved.manifest_sha256[:12]}, read back"]


def _estimates(against: "PlanAgainstActual") -> list[StyledLine]:
    def row(pair: "EstimatedActual", unit: Callable[[float], str]) -> tuple[str, str]:
        return "-" if pair.foretold is None else unit(pair.foretold), unit(pair.actual)

    rows = {
        "": ("estimated", "actual"),
        "time": row(against.seconds, seconds),
        "memory": row(against.peak_memory, size),
        "padding": row(against.padding_share, share),
    }
    return list(map(labeled, rows, table(list(rows.values()), right=(0, 1))))
