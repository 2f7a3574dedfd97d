"""F43: the power is cut at any instant of a run that saves; what was promised is there.

The system calls of the real save path are recorded, and every state that a power cut may leave
is put down and looked at by the code that resumes. Taking one line out of that path must show.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.failures import power
from tests.failures.saver import RUN, STEPS, plan, weights
from tests.failures.traced import saver, strace, told, traced

from headway.runs.folder import RunFolder

STATES = 10_000


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder that no disk is behind: ten thousand small trees come and go in it."""
    shared = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=shared if shared.is_dir() else None))
    yield folder
    shutil.rmtree(folder)


def record(folder: Path, *mutant: str) -> list[power.Step]:
    """What a run does to an empty disk, and what it promises on the way."""
    disk = folder / "disk"
    disk.mkdir()
    change = [json.dumps(mutant)] if mutant else []
    told(*strace(folder / "trace"), *saver("story", disk, *change))
    return power.recorded(traced(folder / "trace"), disk)


def broken(said: list[str], tree: power.Tree, disk: Path) -> str:
    """Which promise this state of the disk breaks, "" where all are kept."""
    power.put_down(tree, disk)
    promised = {kind: int(step) for kind, step in (words.split() for words in said)}
    run = RunFolder(disk / RUN)
    written = (disk / RUN / "plan.json").read_text() if (disk / RUN / "plan.json").exists() else ""
    plans = ["", *map(plan, STEPS)]
    if written not in plans[promised.get("planned", 0) :]:
        return f"plan.json is torn or an older one: {written[:20]}"
    newest, _ = run.newest_verified()
    step = newest.global_step if newest else 0
    if step < promised.get("written", 0):
        return f"checkpoint {step} is the newest that verifies"
    if newest and (newest.path / "model.safetensors").read_bytes() != weights(step):
        return f"checkpoint {step} verifies with other weights"
    linked = run.model.is_symlink() and run.model.resolve().exists()
    if promised.get("saved", 0) and not linked:
        return "the link `model` leads nowhere"
    return ""


def violations(steps: list[power.Step], memory: Path, each: int) -> Iterator[tuple[int, str]]:
    """Of every different state: its number, and which promise it breaks."""
    seen: set[tuple[int, int]] = set()
    for said, tree in power.cuts(steps, each, seed=43):
        state = (len(said), hash(tuple(tree.items())))
        if state in seen:
            continue
        seen.add(state)
        disk = memory / str(len(seen))
        disk.mkdir()
        yield len(seen), broken(said, tree, disk)
        shutil.rmtree(disk)


def test_f43_no_power_cut_takes_what_was_promised(tmp_path: Path, memory: Path) -> None:
    found = dict(violations(record(tmp_path), memory, each=2300))
    assert set(found.values()) == {""}
    assert len(found) >= STATES


FILES = "headway.base.files"
MUTANTS = {
    "a file is not synced": (
        FILES,
        "        os.fsync(file.fileno())\n        if hasattr",
        "        if hasattr",
    ),
    "the manifest and the plan are not synced": (
        FILES,
        "        file.flush()\n        os.fsync(file.fileno())\n",
        "        file.flush()\n",
    ),
    "the folder is not synced": (
        FILES,
        "        sync_folder(place)\n",
        "        pass\n",
    ),
    "the parent is not synced after the rename": (
        FILES,
        "                sync_folder(final.parent)\n",
        "                pass\n",
    ),
    "a new parent is not synced": (
        FILES,
        "            sync_folder(made.parent)\n",
        "            pass\n",
    ),
    "the plan's name is not synced": (
        FILES,
        "            sync_folder(path.parent)\n",
        "            pass\n",
    ),
    "the link is not synced": (
        FILES,
        "            sync_folder(link.parent)\n",
        "            pass\n",
    ),
    "it is published before the rename": (
        FILES,
        "            temporary.rename(final)\n",
        '            os.write(1, f"written {final.name[11:]}\\n".encode())\n'
        "            temporary.rename(final)\n",
    ),
    "the old one is deleted before the new one is synced": (
        FILES,
        "            temporary.rename(final)\n",
        "            temporary.rename(final)\n"
        "            for old in final.parent.glob('checkpoint-*'):\n"
        "                old == final or delete_folder(old)\n",
    ),
    "the old one is deleted before the link leads to the new one": (
        "headway.runs.folder",
        "        replace_link(self.model, checkpoint)\n",
        "        [delete_folder(c.path) for c in self.checkpoints() if c.path != checkpoint]\n"
        "        replace_link(self.model, checkpoint)\n",
    ),
    "the bytes are written under the name itself": (
        FILES,
        "            _write_synced(temporary, data)\n            temporary.replace(path)\n",
        "            _discard(path)\n            _write_synced(path, data)\n",
    ),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_f43_one_line_less_and_a_power_cut_breaks_a_promise(
    tmp_path: Path, memory: Path, mutant: str
) -> None:
    name, old, new = MUTANTS[mutant]
    source = Path(__import__(name, fromlist=["_"]).__file__).read_text()
    assert source.count(old) == 1, "the line that this mutant changes is not there any more"
    steps = record(tmp_path, name, old, new)
    assert any(promise for _, promise in violations(steps, memory, each=60))
