"""A small disk of one's own: a file system in a mount namespace that ends with its holder."""

import contextlib
import os
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_AS_ROOT = os.geteuid() == 0
_UNSHARE = ["unshare", "--mount"] + ([] if _AS_ROOT else ["--user", "--map-root-user"])
_ENTER = ["nsenter", "--mount"] + ([] if _AS_ROOT else ["--user", "--preserve-credentials"])


@dataclass(frozen=True)
class SmallDisk:
    """A mounted file system.

    Attributes:
        inside: where its own processes see it.
        pid: of the process that holds it.
    """

    inside: Path
    pid: int

    @property
    def outside(self) -> Path:
        """The same folder, for a process that was not born in there."""
        return Path(f"/proc/{self.pid}/root{self.inside}")

    @property
    def enter(self) -> list[str]:
        """The words before a command, to run it in the folder above the disk."""
        above = str(self.inside.parent)  # by its path: an open folder is still the one outside
        return [*_ENTER, f"--target={self.pid}", "--", "env", f"--chdir={above}"]

    def leave_free(self, num_bytes: int) -> None:
        """Fill it up but for so many bytes."""
        self.make_room()
        with (self.outside / "ballast").open("wb") as file:
            while (ballast := self.free - num_bytes) > 0:
                with contextlib.suppress(OSError):  # somebody else took some of it meanwhile
                    os.posix_fallocate(file.fileno(), 0, ballast)
                    return

    @property
    def free(self) -> int:
        """Bytes that can be written."""
        now = os.statvfs(self.outside)
        return now.f_bavail * now.f_bsize

    def make_room(self) -> None:
        (self.outside / "ballast").unlink(missing_ok=True)


@contextmanager
def small_disk(place: Path, mount: str) -> Generator[SmallDisk]:
    """Mount something at an empty folder, for as long as this lasts.

    Args:
        place: the folder.
        mount: the words of `mount` before it, "-t tmpfs -o size=8m none".
    """
    script = f'mount {mount} "$0" && echo mounted && exec cat'
    holder = subprocess.Popen(
        [*_UNSHARE, "sh", "-c", script, str(place)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stderr is not None
    try:
        assert holder.stdout.readline() == "mounted\n", holder.stderr.read()
        yield SmallDisk(place, holder.pid)
    finally:
        holder.communicate()  # the end of its input is its end
