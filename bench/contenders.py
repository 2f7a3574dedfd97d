"""Who takes part in a work, the folder it is done in, and the rounds in which they take turns."""

import json
import math
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from report import BETTER, Contender, Figures
from trials import HEADWAY, PEERS, TrialError, run

Trial = Callable[[Path], Figures]  # takes an empty folder


@dataclass(frozen=True)
class Entry:
    """One who takes part.

    Attributes:
        name: in the tables.
        how: what was typed or set.
        ways: a trial; or trials by what is set differently, of which each is tried once and the
            one that does best takes part.
        decides: the figure by which it does best.
    """

    name: str
    how: str
    ways: Trial | Mapping[str, Trial]
    decides: str = ""


@dataclass(frozen=True)
class Work:
    """The folder of a work: data, tokenizer, Headway's plan, and the same rows for the peers."""

    folder: Path
    plan: dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """How much of it to do, and where.

    Attributes:
        folder: for all works.
        rounds: of each work, at most.
        quick: few steps.
        end_s: by `time.monotonic`; past it, no second or later round begins.
    """

    folder: Path
    rounds: int
    quick: bool
    end_s: float = math.inf

    @property
    def compiled(self) -> dict[str, str]:
        """Environment of peers that compile: what one trial compiled, the next one finds."""
        return {"TORCHINDUCTOR_CACHE_DIR": str(self.folder / "inductor")}

    def steps(self, num: int) -> int:
        """The number of steps, or few of them in a quick run."""
        return min(num, 4) if self.quick else num

    def take_turns(self, entries: Sequence[Entry], rounds: int = 0) -> tuple[Contender, ...]:
        """Everybody once per round, each time in an empty folder. Who fails once is out."""
        chosen = [self._best_way(entry) for entry in entries]
        seen: list[list[Figures]] = [[] for _ in entries]
        absent = [reason for _, _, reason in chosen]
        num = rounds or self.rounds
        for number in range(1, num + 1):
            if number > 1 and time.monotonic() > self.end_s:
                break
            for at, entry in enumerate(entries):
                if not absent[at]:
                    told = self._try(entry.name, chosen[at][0], f"{number}/{num}")
                    absent[at] = told if isinstance(told, str) else ""
                    seen[at] += [] if isinstance(told, str) else [told]
        return tuple(
            Contender(entry.name, entry.how + way, () if gone else tuple(figures), gone)
            for entry, (_, way, _), figures, gone in zip(entries, chosen, seen, absent, strict=True)
        )

    def _best_way(self, entry: Entry) -> tuple[Trial, str, str]:
        """The trial that takes part, what to say of the choice, and why there is none."""
        if not isinstance(entry.ways, Mapping):
            return entry.ways, "", ""
        done: dict[str, float] = {}
        failed: dict[str, str] = {}
        for way, trial in entry.ways.items():
            told = self._try(entry.name, trial, way)
            if isinstance(told, str):
                failed[way] = told
            else:
                done[way] = told[entry.decides]
        if not done:
            return next(iter(entry.ways.values())), "", next(iter(failed.values()))
        best = (max if BETTER[entry.decides] == "more" else min)(done, key=lambda way: done[way])
        said = [f"{way} {figure:,.0f} {entry.decides}" for way, figure in done.items()]
        said += [f"{way} {why}" for way, why in failed.items()]
        return entry.ways[best], f"; tried once before: {', '.join(said)}; {best} stands", ""

    def _try(self, name: str, trial: Trial, which: str) -> Figures | str:
        """Its figures, or why there are none."""
        print(f"  {which} {name}", end="", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            try:
                told: Figures | str = trial(Path(folder))
            except TrialError as failure:
                told = str(failure).splitlines()[0]
                print(f"\n{failure}", file=sys.stderr)
        shown = told if isinstance(told, str) else {k: round(v, 3) for k, v in told.items()}
        print(f": {shown}", file=sys.stderr, flush=True)
        return told

    def work(self, name: str, kind: str, data: str, words: Sequence[str], learn: str = "") -> Work:
        """Plan once to get a tokenizer, and once with it; make the peers' rows.

        Args:
            name: of the folder, where the data is already.
            kind: chats or text.
            data: what is trained on, as typed in that folder.
            words: the rest of the command line.
            learn: data that the tokenizer is learned from, if not from the same.
        """
        folder, cache = self.folder / name, self.folder / name / "cache"
        command = [HEADWAY, "plan", *words, "--json"]
        store = Path(json.loads(run([*command, learn or data], folder, cache))["data"]["store"])
        (folder / "tokenizer").mkdir()
        for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            if (store / file).exists():
                shutil.copy(store / file, folder / "tokenizer")
        told = run([*command, data, "--tokenizer", "tokenizer"], folder, cache)
        (folder / "plan.json").write_text(told)
        tokenise = [sys.executable, str(PEERS / "tokenise.py"), str(folder), kind, data]
        run(tokenise, folder, cache)
        return Work(folder, json.loads(told))
