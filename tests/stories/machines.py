"""Two machines in one: namespaces of processes and network, joined by a cable.

Whatever runs in a machine ends with its first process, and the kernel takes machine and cable away
when the test ends, however it ends. The cable joins the two and leads nowhere else.
"""

import os
import subprocess
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

_AS_ROOT = os.geteuid() == 0
_NETWORK = ["unshare", "--net"] + ([] if _AS_ROOT else ["--user", "--map-root-user"])
_SAME_USER = [] if _AS_ROOT else ["--user", "--preserve-credentials"]
_CABLE = "cable"  # the name of its end in each machine
# The network is there as long as the first shell reads its input; the processes, as long as the
# second one does, which is the first process that they can see.
_HOLD = """
ip link set lo up && unshare --uts --pid --mount-proc --fork --kill-child \
    sh -c 'hostname "$0" && echo ready && exec cat' "$0"
exec cat
"""


@dataclass(frozen=True)
class Machine:
    """A host name, an address, and processes of its own; the disk is shared.

    Attributes:
        name: its host name.
        address: on the cable.
        network: the process that holds its network, as it is seen from outside.
        first: the first process in it, likewise.
        started: what was started in it.
    """

    name: str
    address: str
    network: psutil.Process
    first: psutil.Process
    started: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    @property
    def interface(self) -> str:
        """The network interface with its address."""
        return _CABLE

    def enter(self, *words: str) -> list[str]:
        """The command that does something in it."""
        spaces = ["--net", "--uts", "--pid", "--mount", *_SAME_USER]
        return ["nsenter", *spaces, f"--target={self.first.pid}", "--", *words]

    def ip(self, *words: str) -> None:
        """Change its network."""
        _check([*_into(self.network), "ip", *words])

    def start(
        self, *words: str, here: Path, environment: Mapping[str, str]
    ) -> "subprocess.Popen[bytes]":
        """Start a command in a folder; what it prints is added to NAME.log there."""
        with (here / f"{self.name}.log").open("ab") as log:
            process = subprocess.Popen(
                self.enter("env", f"--chdir={here}", *words),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.started.append(process)
        return process

    def unplug(self) -> None:
        """Pull the cable: from here on nothing arrives, and nobody is told."""
        self.ip("link", "set", _CABLE, "down")

    def plug(self) -> None:
        """Put the cable back."""
        self.ip("link", "set", _CABLE, "up")

    def kill(self) -> None:
        """End every process in it at once; its network closes what they had open."""
        self.first.kill()
        self.first.wait()


@contextmanager
def two_machines() -> Generator[tuple[Machine, Machine]]:
    """Two machines that reach each other and nothing else, for as long as this lasts.

    Raises:
        AssertionError: the kernel does not allow it. That is a failure, not a reason to skip.
    """
    with _machine("first", "10.77.0.1") as one, _machine("second", "10.77.0.2", beside=one) as two:
        # The number of the second network's process means the same in the first: only processes
        # that run in the machines see others.
        peer = ["peer", "name", _CABLE, "netns", str(two.network.pid)]
        one.ip("link", "add", _CABLE, "type", "veth", *peer)
        for machine in (one, two):
            machine.ip("addr", "add", f"{machine.address}/24", "dev", _CABLE)
            machine.plug()
        yield one, two


@contextmanager
def _machine(name: str, address: str, beside: Machine | None = None) -> Generator[Machine]:
    # As another user than root: in one user's namespace, so that a cable can join the two.
    command = [*_into(beside.network), "unshare", "--net"] if beside else _NETWORK
    holder = subprocess.Popen(
        [*command, "sh", "-c", _HOLD, name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert holder.stderr is not None
    started: list[subprocess.Popen[bytes]] = []
    try:
        assert holder.stdout.readline() == "ready\n", holder.stderr.read()
        network = psutil.Process(holder.pid)
        (first,) = network.children(recursive=True)[1:]  # after `unshare`
        yield Machine(name, address, network, first, started)
    finally:
        holder.communicate()  # the end of its input is its end, and that of all others in there
        for process in started:
            process.wait()


def _into(network: psutil.Process) -> list[str]:
    return ["nsenter", "--net", *_SAME_USER, f"--target={network.pid}", "--"]


def _check(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
