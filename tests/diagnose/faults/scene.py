"""Scene of a fault: a script that has it, started as a process and ended with all it started."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.failures.small_disk import small_disk

from headway.diagnose.diagnosis import Diagnosis, StallCause
from headway.diagnose.evidence.kernel.process_tree import parents_by_pid, process_tree
from headway.diagnose.examine import examine
from headway.diagnose.explain import explain

SCRIPTS = Path(__file__).with_name("scripts")
_SETTLED_S = 0.3  # from the last line that a script prints to the fault itself


@dataclass
class Scene:
    """What a trial works with.

    Attributes:
        folder: empty, for this trial.
        stack: what ends with the trial.
        pids: asked about.
        options: of `examine`.
    """

    folder: Path
    stack: ExitStack
    pids: list[int] = field(default_factory=list[int])
    options: dict[str, Any] = field(default_factory=dict[str, Any])

    def start(
        self,
        script: str,
        *words: object,
        before: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        lines: int = 1,
    ) -> int:
        """Start a script and wait until it is where its fault is.

        Args:
            script: its name.
            words: its arguments.
            before: the words before the command.
            environment: more variables.
            lines: how many times it says so.
        """
        process = self.stack.enter_context(
            started(
                [*before, sys.executable, str(SCRIPTS / f"{script}.py"), *map(str, words)],
                environment or {},
            )
        )
        assert process.stdout is not None
        for _ in range(lines):
            assert process.stdout.readline() == b"ready\n", "it ended before its fault"
        time.sleep(_SETTLED_S)
        return process.pid

    def ask(self, *pids: int, **options: Any) -> None:
        """Ask about processes."""
        self.pids += pids
        self.options |= options

    def explained(self) -> Diagnosis:
        """What is told about them."""
        return explain(examine(self.pids, **{"silent_s": 5.0, **self.options}))


@contextmanager
def started(
    command: Sequence[str], environment: Mapping[str, str]
) -> Generator["subprocess.Popen[bytes]"]:
    """A process in a group of its own, which is killed as a whole."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, **environment},
    )
    try:
        yield process
    finally:
        for pid in (process.pid, *children_of(process.pid)):  # those of torchrun lead their own
            with suppress(ProcessLookupError):
                os.killpg(os.getpgid(pid), signal.SIGKILL)
        process.communicate()


def children_of(pid: int) -> list[int]:
    return process_tree([pid], parents_by_pid())[1:]


@dataclass(frozen=True)
class Fault:
    """A fault, and what has to be told about it.

    Attributes:
        arrange: makes it, in a scene.
        cause: the right one.
        says: what a person must be able to read.
    """

    arrange: Callable[[Scene], None]
    cause: StallCause
    says: tuple[str, ...] = ()

    def trial(self, folder: Path) -> Diagnosis:
        """Make it once, and ask."""
        folder.mkdir(parents=True)
        try:
            with ExitStack() as stack:
                scene = Scene(folder, stack)
                self.arrange(scene)
                return scene.explained()
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def plain(script: str, *words: object, **options: Any) -> Callable[[Scene], None]:
    """The script alone makes the fault; {folder} in its arguments is the scene's."""

    def arrange(scene: Scene) -> None:
        said = [str(word).format(folder=scene.folder) for word in words]
        scene.ask(scene.start(script, *said), **options)

    return arrange


def stopped_by_signal(scene: Scene) -> None:
    pid = scene.start("stopped")
    os.kill(pid, signal.SIGSTOP)
    scene.ask(pid)


def held_by_debugger(scene: Scene) -> None:
    pid = scene.start("stopped")
    scene.start("tracer", pid)
    scene.ask(pid)


def busy_machine(scene: Scene) -> None:
    """Twice as many processes of others as there are cores."""
    for _ in range(2 * len(os.sched_getaffinity(0))):
        scene.start("stopped")
    scene.ask(scene.start("computing"))


def frozen_loader(scene: Scene) -> None:
    freeze_child(scene, scene.start("loader_frozen"))


def frozen_pool(scene: Scene) -> None:
    freeze_child(scene, scene.start("pool_frozen"))


def freeze_child(scene: Scene, pid: int) -> None:
    loader = next(one for one in children_of(pid) if b"resource_tracker" not in command_of(one))
    os.kill(loader, signal.SIGSTOP)
    time.sleep(_SETTLED_S)
    scene.ask(pid)


def command_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def missing_rank_of_torchrun(scene: Scene) -> None:
    """The same under torchrun: it is asked about, and its workers are found."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    script = str(SCRIPTS / "missing_rank.py")
    words = [*command, "--standalone", "--no-python", sys.executable, script]
    environment = {"GLOO_SOCKET_IFNAME": "lo"}
    process = scene.stack.enter_context(started([*words, str(scene.folder / "store")], environment))
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    time.sleep(1)
    scene.ask(process.pid)


def ranks(scene: Scene) -> tuple[int, int]:
    """Two processes of one group; rank 1 does not come to the second collective."""
    store = scene.folder / "store"
    late = {"RANK": "1", "WORLD_SIZE": "2", "GLOO_SOCKET_IFNAME": "lo"}
    first = {"RANK": "0", "WORLD_SIZE": "2", "GLOO_SOCKET_IFNAME": "lo"}
    one = scene.start("missing_rank", store, environment=first, lines=0)
    return one, scene.start("missing_rank", store, environment=late)


def missing_rank(scene: Scene) -> None:
    first, late = ranks(scene)
    scene.ask(first, late)


def dead_rank(scene: Scene) -> None:
    """One of two workers was killed before it had joined the group."""
    environment = {"GLOO_SOCKET_IFNAME": "lo"}
    pid = scene.start("joining_rank", scene.folder / "store", environment=environment)
    scene.ask(pid, roles={pid: "worker 0 of 2"}, missing=(1,))


def joining_rank(scene: Scene) -> None:
    """The same, where nobody knows about the other worker."""
    dead_rank(scene)
    scene.options.pop("missing")


def full_disk(scene: Scene) -> None:
    disk = scene.stack.enter_context(small_disk(scene.folder, "-t tmpfs -o size=2m none"))
    disk.leave_free(0)
    scene.ask(scene.start("disk_full", disk.inside, before=disk.enter))


def frozen_disk(scene: Scene) -> None:
    """A disk that takes no write, as one whose server is gone; needs root."""
    image = scene.folder.with_suffix(".img")
    image.write_bytes(b"")
    os.truncate(image, 8 << 20)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    scene.stack.callback(image.unlink)
    disk = scene.stack.enter_context(small_disk(scene.folder, f"-o loop {image}"))
    inside = ["nsenter", "--mount", f"--target={disk.pid}", "--", "fsfreeze"]
    scene.ask(scene.start("disk_slow", disk.inside / "model.bin", before=disk.enter))
    # Called before the process is killed: it cannot end while its disk takes nothing.
    scene.stack.callback(subprocess.run, [*inside, "-u", str(disk.inside)], check=False)
    subprocess.run([*inside, "-f", str(disk.inside)], check=True)
    time.sleep(_SETTLED_S)


def silent_name_server(scene: Scene) -> None:
    """A network of its own, in which the name server takes questions and gives no answers."""
    (scene.folder / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:30\n")
    mount = f"ip link set lo up && mount --bind {scene.folder}/resolv.conf /etc/resolv.conf"
    as_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    words = ["unshare", "--net", "--mount", *as_root, "sh", "-c", f'{mount} && exec "$@"', "sh"]
    scene.ask(scene.start("dns", before=words))
