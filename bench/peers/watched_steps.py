"""Steps of a Headway run in one process, every second one without anything that watches them.

Usage:
    python bench/peers/watched_steps.py RUN RESULT

RUN is a folder of `headway plan --save`. Without watching, a step is what computes: no pulse, no
event, no comparison of paces, no note of which gradients were there. The rest is as in a run.
"""

import json
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from headway.base.events import EventLog
from headway.base.process import Stop
from headway.base.pulse import Phase, Pulse
from headway.training.attempt import Attempt, prepare
from headway.training.phases import Phases
from headway.training.step import train_steps

WARM_STEPS = 3


class Switch:
    """Turns watching off and on again."""

    def __init__(self, attempt: Attempt) -> None:
        pulse, log, stepper = attempt.phase.pulse, attempt.log, attempt.trainer.stepper
        # Whose methods and values are replaced, and by what.
        self._replaced: list[tuple[Any, dict[str, Any]]] = [
            (pulse, {"beat": _nothing, "activity": _no_activity, "waiting": _no_activity}),
            (log, {"write": _nothing}),
            (stepper, {"no_gradient_yet": set[str]()}),
        ]
        self._before: list[dict[str, Any]] = []  # of each owner, what was its own

    def turn(self, *, on: bool) -> None:
        """From the next step on."""
        if on:
            for (owner, names), before in zip(self._replaced, self._before, strict=False):
                for name in names:
                    vars(owner).pop(name)
                vars(owner).update(before)
            self._before = []
        elif not self._before:
            for owner, names in self._replaced:
                self._before.append({n: vars(owner)[n] for n in names if n in vars(owner)})
                vars(owner).update(names)


def _nothing(*_: object, **__: object) -> None: ...


def _no_activity(*_: object) -> AbstractContextManager[None]:
    return nullcontext()


def main() -> None:
    """Take the steps of a plan and write how long each took."""
    run, result = Path(sys.argv[1]), Path(sys.argv[2])
    pulse = Pulse(result.with_suffix(".pulse"))
    log = EventLog(run / "events.jsonl", rank=0)
    with Stop().listening() as stop:
        began_s = time.monotonic()
        attempt = prepare(run, log, Phases(pulse, log), stop)
        before_s = {str(k): v for k, v in attempt.phase.seconds.items()}
        seconds = steps(attempt)
    told = {
        "on": seconds[True],
        "off": seconds[False],
        "before_s": before_s,
        "total_s": time.monotonic() - began_s,
    }
    result.write_text(json.dumps(told))


def steps(attempt: Attempt) -> dict[bool, list[float]]:
    """Seconds of each step, with watching and without, from the end of one to the next."""
    trainer, switch = attempt.trainer, Switch(attempt)
    take: Callable[..., Any] = partial(
        trainer.stepper.take_step,
        should_drop=attempt._should_drop_step,  # noqa: SLF001 - asked as in a run
        may_drop=attempt._may_drop,  # noqa: SLF001
    )
    seconds: dict[bool, list[float]] = {True: [], False: []}
    is_on, last_s = True, time.perf_counter()
    with attempt.phase(Phase.TRAINING):
        for batch, report in train_steps(trainer.batches(_nothing), take):
            if is_on:
                attempt._finish_step(batch, report)  # noqa: SLF001 - as in a run
            else:
                trainer.count(batch, report)
                attempt.step_seconds.append(report.seconds)
            now_s = time.perf_counter()
            if report.step > WARM_STEPS:
                seconds[is_on].append(now_s - last_s)
            # on off off on: what only gets faster or slower favors neither
            is_on = report.step % 4 in (0, 3)
            switch.turn(on=is_on)
            last_s = time.perf_counter()
    switch.turn(on=True)
    return seconds


if __name__ == "__main__":
    main()
