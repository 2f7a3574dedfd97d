"""Two machines in one: namespaces of processes and network, joined by a cable.

A machine is all that its holder, the first process in it, keeps alive: when the holder ends, by
itself or with the test, the kernel ends every process in there and takes the network away. The
cable joins the two and leads nowhere else.
"""

import os
import subprocess
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

_AS_ROOT = os.geteuid() == 0
_NEW = ["unshare", "--net", "--uts", "--pid", "--mount-proc", "--fork", "--kill-child"]
_ENTER = ["nsenter", "--net", "--uts", "--pid", "--mount"]
_CABLE = "cable"  # the name of its end in each machine
_HOLD = 'hostname "$0" && ip link set lo up && echo ready && exec cat'


@dataclass(frozen=True)
class Machine:
    """A host name, an address, and processes of its own; the disk is shared.

    Attributes:
        name: its host name.
        address: on the cable.
        holder: its first process, as it is seen from outside.
    """

    name: str
    address: str
    holder: psutil.Process

    @property
    def interface(self) -> str:
        """The network interface with its address."""
        return _CABLE

    def enter(self, *words: str) -> list[str]:
        """The command that does something in it."""
        user = [] if _AS_ROOT else ["--user", "--preserve-credentials"]
        return [*_ENTER, *user, f"--target={self.holder.pid}", "--", *words]

    def start(
        self, *words: str, here: Path, environment: Mapping[str, str]
    ) -> "subprocess.Popen[bytes]":
        """Start a command in a folder; what it prints is added to NAME.log there."""
        with (here / f"{self.name}.log").open("ab") as log:
            return subprocess.Popen(
                self.enter("env", f"--chdir={here}", *words),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def unplug(self) -> None:
        """Pull the cable: from here on nothing arrives, and nobody is told."""
        _check(self.enter("ip", "link", "set", _CABLE, "down"))

    def plug(self) -> None:
        """Put the cable back."""
        _check(self.enter("ip", "link", "set", _CABLE, "up"))

    def kill(self) -> None:
        """End every process in it at once."""
        self.holder.kill()
        self.holder.wait()


@contextmanager
def two_machines() -> Generator[tuple[Machine, Machine]]:
    """Two machines that reach each other and nothing else, for as long as this lasts.

    Raises:
        AssertionError: the kernel does not allow it. That is a failure, not a reason to skip.
    """
    with _machine("first", "10.77.0.1") as one, _machine("second", "10.77.0.2", beside=one) as two:
        target = str(two.holder.pid)
        peer = ["peer", "name", _CABLE, "netns", target]
        # From outside, where both process numbers mean something, into the first one's network.
        join = ["nsenter", "--net", *([] if _AS_ROOT else ["--user", "--preserve-credentials"])]
        add = ["ip", "link", "add", _CABLE, "type", "veth", *peer]
        _check([*join, f"--target={one.holder.pid}", "--", *add])
        for machine in (one, two):
            _check(machine.enter("ip", "addr", "add", f"{machine.address}/24", "dev", _CABLE))
            machine.plug()
        yield one, two


@contextmanager
def _machine(name: str, address: str, beside: Machine | None = None) -> Generator[Machine]:
    user = [] if _AS_ROOT else ["--user", "--map-root-user"]
    if beside and not _AS_ROOT:  # the same user namespace, so that a cable can join them
        enter = ["nsenter", "--user", "--preserve-credentials", f"--target={beside.holder.pid}"]
        command = [*enter, "--", *_NEW]
    else:
        command = [*_NEW, *user]
    launcher = subprocess.Popen(
        [*command, "sh", "-c", _HOLD, name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert launcher.stdin is not None
    assert launcher.stdout is not None
    assert launcher.stderr is not None
    try:
        assert launcher.stdout.readline() == "ready\n", launcher.stderr.read()
        (holder,) = psutil.Process(launcher.pid).children()
        yield Machine(name, address, holder)
    finally:
        launcher.communicate()  # the end of its input is its end, and that of all others in there


def _check(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
