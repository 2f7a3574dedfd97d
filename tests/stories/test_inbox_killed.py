"""F49: the daemon is killed at random instants while files arrive; each is trained exactly once."""

import itertools
import json
import random
import signal
import subprocess
from pathlib import Path

import pytest

from .conftest import Headway, until
from .test_inbox import chats

SETTINGS = "batch_size: 2\nsave_steps: 4\nthreads: 1\nbf16: false\nreplay: 0.5\n"


def model(folder: Path) -> dict[str, str]:
    """The hashes of what the current model is made of."""
    files = json.loads((folder / "current_model/manifest.json").read_text())["files"]
    return {name: files[name]["sha256"] for name in ("model.safetensors", "optimizer.safetensors")}


@pytest.mark.parametrize(
    ("num_files", "num_kills"),
    [(2, 3), pytest.param(20, 200, marks=pytest.mark.chaos)],
)
@pytest.mark.timeout(7200)
def test_f49_killed_again_and_again_while_files_arrive(
    headway: Headway, num_files: int, num_kills: int
) -> None:
    draws = random.Random(num_kills)
    files = {f"{n:02}.jsonl": chats(draws.randint(2, 40), f"file {n}") for n in range(num_files)}
    for folder in ("twin", "inbox"):
        headway.write(f"{folder}/headway.yaml", SETTINGS)
    for name, content in files.items():
        headway.write(f"twin/{name}", content)
        # Each file in new processes: those that are forked from one give the same bits.
        words = ("--once", "--preset", "tiny", "--idle-minutes", "0")
        assert headway("inbox", "start", "twin", *words).code == 0

    inbox, left = headway.here / "inbox", list(files)
    for _ in range(num_kills):
        process = headway.start("inbox", "start", "inbox", "--preset", "tiny")
        if left and draws.random() < 0.5:
            name = left.pop(0)
            headway.write(f"inbox/{name}", files[name])
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(draws.uniform(0.2, 20.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
    for name in left:
        headway.write(f"inbox/{name}", files[name])
    until(lambda: headway("inbox", "start", "inbox", "--once").code == 0)
    assert not list((inbox / "failed").iterdir())
    assert not list((inbox / "processing").iterdir())
    jobs = headway("inbox", "list", "inbox", "--json").json
    assert [job["name"] for job in jobs] == list(files)
    assert {job["state"] for job in jobs} == {"done"}
    steps = [(job["learned"]["first_step"], job["learned"]["last_step"]) for job in jobs]
    assert all(end == begin for (_, end), (begin, _) in itertools.pairwise(steps))
    for name, content in files.items():
        receipt = json.loads((inbox / f"done/{name}.receipt.json").read_text())
        assert receipt["rows"]["applications"] == content.count("\n")
        assert (receipt["rows"]["missing"], receipt["rows"]["repeated"]) == (0, 0)
    assert model(inbox) == model(headway.here / "twin")
