"""Another user was there first: nothing of theirs is run, read, changed, removed or signaled.

A user without rights (nobody) makes what they can before Headway starts, in a /dev/shm that only
this test sees. Headway runs as root, whom no permission stops: what it leaves alone, it leaves
alone by itself.
"""

import json
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.failures.small_disk import SmallDisk, small_disk
from tests.stories.conftest import Headway

pytestmark = pytest.mark.skipif(
    os.getuid() != 0, reason="only root can be another user as well: run as root"
)
NOBODY = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
SHARED = Path("/dev/shm")
NAME = f"headway-{os.getuid()}"
Tree = dict[str, tuple[object, ...]]


@pytest.fixture
def shared() -> Iterator[SmallDisk]:
    """A /dev/shm of the test's own."""
    with small_disk(SHARED, "-t tmpfs -o mode=1777,size=64m none") as disk:
        yield disk


@pytest.fixture
def headway(tmp_path: Path, shared: SmallDisk, own_cache: Path) -> Headway:
    hands = Headway(tmp_path, own_cache)
    hands.before = [*shared.enter[:-1], f"--chdir={tmp_path}"]
    hands.environment.pop("XDG_RUNTIME_DIR", None)
    hands.write("notes.txt", "All work and no play makes Jack a dull boy. " * 40)
    return hands


@pytest.fixture
def stranger() -> Iterator["subprocess.Popen[bytes]"]:
    """A process of this user that has nothing to do with Headway."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A folder of this user with names like those that Headway removes."""
    folder = tmp_path / "precious"
    for name in ("999999999", "999999999-1-x", "notes"):
        (folder / name).mkdir(parents=True)
        (folder / name / "file").write_text("precious")
    folder.chmod(0o755)
    return folder


def as_nobody(shared: SmallDisk, script: str, *arguments: object) -> None:
    """What nobody does in /dev/shm."""
    command = [*shared.enter[:-1], f"--chdir={SHARED}", *NOBODY, "sh", "-ec", f"umask 0\n{script}"]
    subprocess.run([*command, NAME, *map(str, arguments)], check=True)


def job_of(stranger: "subprocess.Popen[bytes]", headway: Headway) -> str:
    """A job.json that names a process of this user, for this release and the one before."""
    started = Path(f"/proc/{stranger.pid}/stat").read_text().rpartition(")")[2].split()[19]
    return json.dumps(
        {
            "run": "forged",
            "folder": "",
            "output_dir": str(headway.here / "runs"),
            "argv": [],
            "pid": stranger.pid,
            "process": {"pid": stranger.pid, "started": int(started)},
            "live": str(SHARED / NAME / str(stranger.pid)),
            "started_at": "2999-01-01T00:00:00",
        }
    )


def tree(folder: Path) -> Tree:
    """All there is, with every time that changes when it is read or written."""
    paths = [folder, *(sorted(folder.rglob("*")) if stat.S_ISDIR(folder.lstat().st_mode) else [])]
    return {str(path): facts(path) for path in paths}


def facts(path: Path) -> tuple[object, ...]:
    found = path.lstat()
    read_ns = found.st_atime_ns if stat.S_ISREG(found.st_mode) else 0
    return found.st_mode, found.st_uid, found.st_mtime_ns, found.st_ctime_ns, found.st_size, read_ns


FORGED = """
for name in "$1" "$1-$2-x"; do
    mkdir "$0/$name"
    printf '%s' "$3" > "$0/$name/job.json"
    : > "$0/$name/lock"
    mkfifo "$0/$name/planner.pulse"
done
mkdir "$0/999999999" "$0/999999999-1-x"
"""
PLANTED = {
    "a folder": 'mkdir "$0"' + FORGED,
    "a folder of another name": 'mkdir "$0-1"; ln -s "$0-1" "$0"; set -- "$@"' + FORGED,
    "a link to a folder of the victim": 'ln -s "$4" "$0"',
    "a link to nothing": 'ln -s nothing "$0"',
    "a pipe": 'mkfifo "$0"',
    "a file": 'printf x > "$0"',
}


@pytest.mark.parametrize("planted", PLANTED)
def test_what_another_user_planted_is_left_alone(
    planted: str,
    headway: Headway,
    shared: SmallDisk,
    stranger: "subprocess.Popen[bytes]",
    precious: Path,
) -> None:
    job = job_of(stranger, headway)
    started = json.loads(job)["process"]["started"]
    as_nobody(shared, PLANTED[planted], stranger.pid, started, job, precious)
    before = {path: tree(path) for path in [*shared.outside.iterdir(), precious]}

    plan = headway("plan", "notes.txt", "--preset", "tiny", "--json")
    assert plan.code == 0, plan.err
    for verb in ("status", "stop", "runs"):
        found = headway(verb)
        assert found.code == (0 if verb == "runs" else 2), found.out + found.err
        assert "forged" not in found.out + found.err

    assert {path: tree(path) for path in before} == before
    assert stranger.poll() is None
    mine = [path for path in shared.outside.iterdir() if path not in before]
    assert [(path.stat().st_uid, path.stat().st_mode & 0o777) for path in mine] == [(0, 0o700)]
    assert list(mine[0].iterdir()) == []


def test_a_run_is_found_and_stopped_where_another_user_has_the_usual_name(
    headway: Headway, shared: SmallDisk
) -> None:
    as_nobody(shared, 'mkdir "$0"')
    theirs = shared.outside / NAME
    before = tree(theirs)
    process = headway.start("train", "notes.txt", "--preset", "tiny", "--max-steps", 100_000)
    events = headway.here / "runs" / "notes" / "events.jsonl"
    while '"step_done"' not in (events.read_text() if events.exists() else ""):
        assert process.poll() is None, process.communicate()
    found = headway("status", "--json")
    assert found.json["state"] == "training", found.out
    assert found.json["pid"] == process.pid
    assert headway("stop").code == 0
    process.communicate(timeout=60)
    assert tree(theirs) == before


def test_nobody_else_can_enter_what_headway_makes(headway: Headway, shared: SmallDisk) -> None:
    process = headway.start("train", "notes.txt", "--preset", "tiny", "--max-steps", 100_000)
    while not any((shared.outside / NAME).glob("*/*.pulse")):
        assert process.poll() is None, process.communicate()
    for script in ('ls "$0"', 'cat "$0"/*/request.json', ': > "$0/x"', 'mv "$0" x', 'rmdir "$0"'):
        with pytest.raises(subprocess.CalledProcessError):
            as_nobody(shared, script)
    process.kill()
    process.communicate()
