"""The inbox as in a container: no terminal, no home, a read-only root, one folder to write to."""

import json
import os
import signal
import subprocess

import pytest

from .conftest import Headway, until
from .test_inbox import chats

# Everything is read-only but the folder $0, which is a mount of its own; shared memory, too.
CONTAINER = """\
set -e
mount --make-rprivate /
mount --bind "$0" "$0"
mount -o remount,bind,ro /
for place in /tmp /dev/shm /dev /var/tmp; do
    if mountpoint -q "$place"; then mount -o remount,bind,ro "$place"; fi
done
cd "$0"
exec unshare --user --map-user=12345 --map-group=12345 "$@"
"""


@pytest.fixture
def container(headway: Headway) -> Headway:
    """Types in a container, as a user that has no entry in passwd."""
    if os.geteuid():
        pytest.skip("mounts need root")
    (headway.here / "inbox").mkdir()
    headway.before = ["unshare", "--mount", "sh", "-c", CONTAINER, str(headway.here / "inbox")]
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "TMPDIR", "TERM", "COLUMNS"):
        headway.environment.pop(name, None)
    return headway


def test_it_really_is_one(container: Headway) -> None:
    def typed(command: str) -> int:
        words = [*container.before, "sh", "-c", command]
        return subprocess.run(words, env=container.environment, capture_output=True).returncode

    assert typed("touch in-the-inbox") == 0
    for place in ("/", "/tmp", "/dev/shm", str(container.here)):
        assert typed(f"touch {place}/outside") != 0, place
    assert typed("test $(id -u) = 12345 && ! getent passwd 12345") == 0


def test_files_are_learned_with_nothing_but_the_inbox_to_write_to(container: Headway) -> None:
    inbox = container.here / "inbox"
    container.write("inbox/a.jsonl", chats(3, "a"))
    daemon = subprocess.Popen(
        container.command("inbox", "start", inbox, "--preset", "tiny"),
        cwd="/",
        env=container.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # without a terminal
    )
    container.started.append(daemon)
    until(lambda: daemon.poll() is not None or (inbox / "done/a.jsonl").exists())
    assert daemon.poll() is None, daemon.stdout and daemon.stdout.read()
    container.write("inbox/b.jsonl", chats(3, "b"))  # by what the first one has left in memory
    until(lambda: daemon.poll() is not None or (inbox / "done/b.jsonl").exists())
    status = container("inbox", "status", inbox, "--json")
    assert status.json["counts"] == {"done": 2}, status.err
    daemon.send_signal(signal.SIGTERM)
    assert daemon.stdout is not None
    out = daemon.stdout.read()
    assert daemon.wait() == 75, out
    state = json.loads((inbox / "current_model/trainer_state.json").read_text())
    assert state["global_step"] == 6  # three rows each, one in a step
    for name in ("a", "b"):
        run = json.loads((inbox / f"done/{name}.jsonl.receipt.json").read_text())["run"]
        # As its refusal says without: export XDG_CACHE_HOME=DIR.
        cache = str(inbox / ".headway/cache")
        verified = container("verify", inbox / ".headway/runs" / run, XDG_CACHE_HOME=cache)
        assert verified.code == 0, verified.err
