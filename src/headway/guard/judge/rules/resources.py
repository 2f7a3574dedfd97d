"""Resources of a run: memory that only grows, throughput that decays, processes left behind."""

import itertools
import statistics
from collections.abc import Iterator

from headway.base.errors import Cause, Finding, Remedy
from headway.base.units import count, plural, seconds, share, size
from headway.guard.facts import ProgressRecord
from headway.guard.judge.traces.case import Case

_LEAST_READINGS = 30
_LEAST_S = 60.0  # of memory
_WINDOWS = 6
_LEAST_GROWTH_BYTES = 200e6
_LEAST_GROWTH = 0.2  # of what it began with
_STILL_GROWING = 0.5  # of its mean growth, in the last window
_LEAST_INTERVALS = 30
_LEAST_TRAINED_S = 20.0
_SLOWER = 2.0  # times
_SHOWN = 3


def resources(case: Case) -> Iterator[Finding]:
    """What a run took, and what it left."""
    for finding in (_orphans(case), _memory(case), _throughput(case)):
        if finding:
            yield finding


def _orphans(case: Case) -> Finding | None:
    orphans = case.facts.orphans
    if not orphans:
        return None
    shown = "\n".join(
        f"{one.process.pid}: {' '.join(one.command)[:80]}" for one in orphans[:_SHOWN]
    )
    more = f"\nand {count(len(orphans) - _SHOWN)} more" if len(orphans) > _SHOWN else ""
    pids = " ".join(str(one.process.pid) for one in orphans)
    return Finding(
        "warning",
        f"{plural(len(orphans), 'process', 'processes')} outlived the command",
        have=shown + more,
        need="processes that end with it: these keep their memory and their ports",
        remedies=(
            Remedy(f"kill -9 {pids}", "if nobody needs them; -9, since they may be stopped"),
        ),
        cause=Cause.PROCESS_KILLED,
    )


def _memory(case: Case) -> Finding | None:
    """Memory that grew from window to window to the end: a leak, or something is collected."""
    readings = case.facts.memory
    if len(readings) < _LEAST_READINGS or readings[-1].at_s - readings[0].at_s < _LEAST_S:
        return None
    started = readings[len(readings) // 4 :]  # imports, models and caches fill up first
    length = len(started) // _WINDOWS
    windows = [started[at * length : (at + 1) * length] for at in range(_WINDOWS)]
    lows = [min(one.bytes for one in window) for window in windows if window]
    steps = [later - earlier for earlier, later in itertools.pairwise(lows)]
    grown = lows[-1] - lows[0]
    is_steady = steps and min(steps) > 0 and steps[-1] > _STILL_GROWING * grown / len(steps)
    if not is_steady or grown < max(_LEAST_GROWTH_BYTES, _LEAST_GROWTH * lows[0]):
        return None
    lasted = windows[-1][0].at_s - windows[0][0].at_s
    return Finding(
        "warning",
        f"memory only grew: {size(grown)} in {seconds(lasted)}",
        have=f"{size(lows[0])} -> {size(lows[-1])}, {size(grown / lasted * 3600)} an hour, in each"
        f" of {len(lows)} windows",
        need="memory that levels off after the first steps",
        remedies=(
            Remedy("loss.item()", "where losses are collected: a tensor keeps its whole graph"),
            Remedy("eval_accumulation_steps=8", "if it grows while it evaluates"),
        ),
        cause=Cause.OUT_OF_MEMORY,
    )


def _throughput(case: Case) -> Finding | None:
    """Steps that take longer and longer."""
    took = _step_seconds(case.facts.records)
    if len(took) < _LEAST_INTERVALS or sum(took) < _LEAST_TRAINED_S:
        return None
    started = took[len(took) // 10 :]
    third = len(started) // 3
    first, middle, last = (
        statistics.median(started[at * third : (at + 1) * third]) for at in range(3)
    )
    if not (first < middle < last and last > _SLOWER * first):
        return None
    return Finding(
        "warning",
        f"steps became {last / first:.1f} times slower",
        have=f"{seconds(first)} a step, then {seconds(middle)}, then {seconds(last)}:"
        f" {share(first, last)} of the speed is left",
        need="steps that take the same time from beginning to end",
        remedies=(
            Remedy("headway doctor", "shows what else takes this machine's cores and memory"),
            Remedy("headway diagnose --pid PID", "while it runs: shows where the time goes"),
        ),
        cause=Cause.SLOWER,
    )


def _step_seconds(records: tuple[ProgressRecord, ...]) -> list[float]:
    """The time of a step, for each pair of records that follow one another in a count."""
    took: list[float] = []
    before: ProgressRecord | None = None
    for one in records:
        if not one.is_of_training or one.step is None:
            continue
        if before and before.step is not None and one.total == before.total:
            steps, lasted = one.step - before.step, one.at_s - before.at_s
            if steps > 0 and lasted > 0:
                took.append(lasted / steps)
            elif steps == 0:
                continue  # the same step, drawn again
        before = one
    return took
