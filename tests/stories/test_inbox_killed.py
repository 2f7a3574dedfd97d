"""F49: the daemon is killed again and again while files arrive; each is trained exactly once.

Half of the kills come at random instants, half where something has, or is about to get, its name.
Half take every process at once, half the daemon alone. The daemons are forked from a process that
has imported everything; the twin that nobody disturbs is typed.
"""

import itertools
import json
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.inbox.lives import Life, Lives

from .conftest import Headway
from .test_inbox import TINY, chats

SETTINGS = "batch_size: 2\nsave_steps: 4\nthreads: 1\nbf16: false\n"
NUM_FILES, NUM_KILLS = 20, 50
FIRST_MODEL = r"/first_model\.json$"
# What a file goes through: a kill comes just before one of these gets its name, or just after.
POINTS = {
    "the claim": r"/processing/[^/]+$",
    "its record": r"/jobs/\d+\.json$",
    "the plan": r"/plan\.json$",
    "what was settled": r"/settled\.json$",
    "a checkpoint": r"/checkpoint-\d+$",
    "the run's receipt": r"/runs/[^/]+/receipt\.json$",
    "the kept rows": r"/kept_rows\.json$",
    "the link to the model": r"/current_model$",
    "what is still known": r"/still_known\.json$",
    "the receipt beside it": r"/done/[^/]+\.receipt\.json$",
    "its move": r"/done/\d+\.jsonl$",
}
# The newest trace of a file that is in processing/, and how many of the points it has passed.
TRACES = {
    "done/{name}.receipt.json": 10,
    ".headway/runs/{run}/still_known.json": 9,
    ".headway/runs/{run}/kept_rows.json": 7,
    ".headway/runs/{run}/receipt.json": 6,
    ".headway/runs/{run}/checkpoint-*": 5,
    ".headway/runs/{run}/settled.json": 4,
    ".headway/runs/{run}/plan.json": 3,
}


class Campaign:
    """Daemons of one inbox, each of which is killed, and the files that arrive meanwhile."""

    def __init__(self, inbox: Path, lives: Lives, files: list[Path], draws: random.Random) -> None:
        self.inbox, self.lives, self.draws = inbox, lives, draws
        self.left = list(files)
        self.points = [*itertools.product(POINTS, (False, True))]

    def kill(self, **how: Any) -> None:
        """A daemon that is killed."""
        life = Life(str(self.inbox), TINY, takes_all=self.draws.random() < 0.5, **how)
        self.lives.begin(life)
        death = self.lives.end()
        print(life, death, self.passed())
        assert death.code == -signal.SIGKILL
        self.left = self.left[death.num_dropped :]

    def kill_at_point(self) -> None:
        """A daemon that is killed at a point, which a file is still to reach; if any is left.

        Which points a file has passed is guessed by what it left: where that is wrong, and nothing
        reaches the point, the daemon is killed by the clock.
        """
        names, passed = list(POINTS), self.passed()
        ahead = [one for one in self.points if names.index(one[0]) >= passed]
        is_ahead = bool(ahead) and (passed > 0 or self.is_waiting())
        if not (is_ahead or self.is_waiting() or self.left):
            self.kill_at_random()
            return
        point = self.draws.choice(ahead if is_ahead else self.points)
        self.points.remove(point)
        drops = [] if is_ahead or self.is_waiting() else [(0.0, str(self.left[0]))]
        self.kill(point=POINTS[point[0]], is_after=point[1], drops=drops, kill_s=30.0)

    def kill_at_random(self) -> None:
        """A daemon that is killed at a random instant, and files that arrive at others."""
        most = len(self.left) - len(self.points) // 2 - 2  # the others are for points
        num = max(0, min(self.draws.choice((0, 0, 1, 1, 2)), most))
        times = sorted(self.draws.uniform(0.0, 2.0) for _ in range(num))
        drops = list(zip(times, map(str, self.left), strict=False))
        self.kill(kill_s=self.draws.uniform(0.0, 3.0), drops=drops)

    def is_waiting(self) -> bool:
        return any(self.inbox.glob("*.jsonl"))

    def passed(self) -> int:
        """How many points the newest file in processing/ has passed; 0 if there is none."""
        claimed = max(self.inbox.glob("processing/*"), default=None)
        if claimed is None:
            return 0
        name, link = claimed.name, self.inbox / "current_model"
        run = f"*-{claimed.stem}"
        traces = [
            (self.inbox.glob(place.format(name=name, run=run)), n) for place, n in TRACES.items()
        ]
        passed = next((number for found, number in traces if any(found)), 2)
        is_linked = passed in (6, 7) and link.is_symlink() and link.resolve().parent.match(run)
        return 8 if is_linked else passed


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def model(folder: Path) -> dict[str, str]:
    """The hashes of what the current model is made of."""
    files = json.loads((folder / "current_model/manifest.json").read_text())["files"]
    return {name: files[name]["sha256"] for name in ("model.safetensors", "optimizer.safetensors")}


@pytest.fixture
def lives(headway: Headway) -> Iterator[Lives]:
    server = Lives(headway.here, headway.environment)
    yield server
    server.close()


@pytest.mark.parametrize(
    ("seed", "replay"),
    [(0, True), *(pytest.param(n, n % 2 == 0, marks=pytest.mark.chaos) for n in range(1, 9))],
)
@pytest.mark.timeout(1800)
def test_f49_killed_fifty_times_while_files_arrive(
    headway: Headway, lives: Lives, seed: int, replay: bool
) -> None:
    draws, inbox, twin = random.Random(seed), headway.here / "inbox", headway.here / "twin"
    files = [
        headway.write(f"files/{n:02}.jsonl", chats(draws.randint(2, 12), f"file {n}"))
        for n in range(NUM_FILES)
    ]
    for folder in (inbox, twin):
        headway.write(f"{folder}/headway.yaml", SETTINGS + "replay: 0.5\n" * replay)
    for file in files:
        headway.write(f"twin/{file.name}", file.read_bytes())
    undisturbed = headway.start("inbox", "start", "twin", "--once", "--quiet", *TINY)

    campaign = Campaign(inbox, lives, files, draws)
    kinds = [True] * len(campaign.points) + [False] * (NUM_KILLS - 2 - len(campaign.points))
    draws.shuffle(kinds)
    for is_after in (False, True):
        campaign.kill(point=FIRST_MODEL, is_after=is_after)
    for is_point in kinds:
        (campaign.kill_at_point if is_point else campaign.kill_at_random)()
    lives.wait_for_orphans()
    lives.begin(Life(str(inbox), ("--once",), [(0.0, str(file)) for file in campaign.left]))
    assert lives.end().code == 0

    jobs = headway("inbox", "list", "inbox", "--json").json
    assert [job["name"] for job in jobs] == [file.name for file in files]
    assert {(job["state"], job["crashes"]) for job in jobs} == {("done", 0)}
    steps = [(job["learned"]["first_step"], job["learned"]["last_step"]) for job in jobs]
    assert all(end == begin for (_, end), (begin, _) in itertools.pairwise(steps))
    for file in files:
        rows = json.loads((inbox / f"done/{file.name}.receipt.json").read_text())["rows"]
        assert rows["applications"] + rows["held_out"] == file.read_bytes().count(b"\n")
        assert (rows["missing"], rows["repeated"]) == (0, 0)
    assert undisturbed.wait() == 0
    assert model(inbox) == model(twin)
    # Nothing is left of what was cut short.
    assert [p for p in inbox.rglob(".*") if p.name != ".headway"] == []
    for place in ("", "processing", "done", "failed", ".headway/jobs", ".headway/runs"):
        assert names(inbox / place) == names(twin / place)
