"""strace: what a process asks of the kernel, and the kernel's answers made worse."""

import ast
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SAVER = Path(__file__).with_name("saver.py")
# Everything by which a file or a name can change. What a test does not expect, it must refuse.
CALLS = (
    "openat,open,creat,write,pwrite64,writev,pwritev,pwritev2,ftruncate,truncate,fallocate,"
    "sendfile,copy_file_range,splice,fsync,fdatasync,sync_file_range,rename,renameat,renameat2,"
    "mkdir,mkdirat,rmdir,unlink,unlinkat,symlink,symlinkat,link,linkat,chmod,fchmod,fchmodat,"
    "close,read,fadvise64"
)


@dataclass(frozen=True)
class Call:
    """One system call that returned."""

    pid: int
    name: str
    arguments: str  # as strace prints them, descriptors with their paths
    result: str

    @property
    def failed(self) -> bool:
        return self.result.startswith("-1")

    @property
    def strings(self) -> list[bytes]:
        """What stands in quotes: paths as they were given, and data."""
        return [ast.literal_eval("b" + s) for s in re.findall(r'"(?:[^"\\]|\\.)*"', self.arguments)]

    @property
    def descriptor(self) -> int:
        """The first argument, an open file or folder."""
        return int(re.match(r"-?\d+", self.arguments)[0])  # type: ignore[index]


def strace(out: Path, inject: str = "", calls: str = CALLS) -> list[str]:
    """The words before a command, to see every call of every process it starts.

    Args:
        out: where the calls are written.
        inject: what one call of a process is made to do, "error=EIO:when=3".
        calls: which ones are seen, and made to.
    """
    names = ",".join("?" + name for name in calls.split(","))  # not every machine has every call
    faults = ["-e", f"inject={names}:{inject}"] if inject else []
    words = ["strace", "-f", "-y", "-qq", "-s", "1000000", "-o", str(out)]
    return [*words, "-e", f"trace={names}", "-e", "signal=none", *faults]


def told(*words: str | Path) -> str:
    """What a command says on its standard output; it must end well."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def saver(*words: str | Path) -> list[str | Path]:
    return [sys.executable, SAVER, *words]


def traced(out: Path) -> list[Call]:
    """What was traced, in order."""
    line = re.compile(r"(\d+) +(\w+)\((.*)\) += (.*)", re.DOTALL)
    found = [line.fullmatch(text) for text in out.read_text().splitlines()]
    return [Call(int(m[1]), m[2], m[3], m[4]) for m in found if m]
