"""An inbox without waiting: a clock that jumps, a trainer that writes what a run leaves, and a disk
that can die before or after any of its changes."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import time
from pathlib import Path
from typing import Any

from tests.ui.fixtures import receipt

from headway.base.errors import Exit, RefusalMessage
from headway.base.process import Stop
from headway.inbox.daemon import Daemon
from headway.inbox.folder import Disk, InboxFolder
from headway.inbox.jobs.inbox_job import GivenSetting
from headway.inbox.jobs.index import JobIndex
from headway.inbox.jobs.outcomes import TrainingEnd
from headway.inbox.jobs.queue import Queue
from headway.inbox.neighbor.held_back import HeldBack
from headway.inbox.notices import InboxNotice
from headway.inbox.options import InboxOptions
from headway.inbox.recall.still_known import FILE, SCHEMA, KnownFile, StillKnown
from headway.inbox.training_process import FileRequest
from headway.runs import receipt as r

STEPS = 2  # that each file takes
Ends = dict[str, list[TrainingEnd | None]]


class Killed(BaseException):
    """The daemon is gone, at once."""


class MortalDisk(Disk):
    """Changes without fsync, one of which is the last.

    Args:
        last: number of the change that kills, counted from 0; None for none.
        before: whether it is not made.
    """

    def __init__(self, last: int | None = None, *, before: bool = False) -> None:
        self.num = 0
        self._last = last
        self._before = before

    def change(self, make: Callable[[], object]) -> None:
        number, self.num = self.num, self.num + 1
        if number == self._last and self._before:
            raise Killed
        make()
        if number == self._last:
            raise Killed

    def write(self, path: Path, content: bytes | str) -> None:
        data = content.encode() if isinstance(content, str) else content

        def make() -> None:
            temporary = path.with_name(f".{path.name}.tmp")
            temporary.write_bytes(data)
            temporary.replace(path)

        self.change(make)

    def move(self, source: Path, target: Path) -> None:
        if not os.path.lexists(source):
            raise FileNotFoundError(source)
        assert not os.path.lexists(target)
        self.change(lambda: source.rename(target))

    def link(self, link: Path, target: Path) -> None:
        def make() -> None:
            temporary = link.with_name(".link.tmp")
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(os.path.relpath(target, link.parent))
            temporary.replace(link)

        self.change(make)

    def remove(self, path: Path) -> None:
        if os.path.lexists(path):
            self.change(path.unlink)


class FakeTrainer:
    """Writes what a run leaves: a plan when it starts; a checkpoint and a receipt at its end.

    The model is the list of all contents that were trained, so that it shows what went into it, in
    which order and how often.

    Args:
        disk: makes its changes.
        ends: how the attempts at a name end instead, the last one for all that follow; None: well.
    """

    def __init__(self, disk: MortalDisk, ends: "Ends | None" = None) -> None:
        self._disk = disk
        self._ends = ends or {}
        self.requests: list[FileRequest] = []
        self.asked = 0
        self.on_start: Callable[[FileRequest], None] = lambda _: None
        self.is_slow = False
        self.is_beside = False  # tables are measured beside the next file
        self.is_late = False  # and not before `measure` is called
        self._measured: FileRequest | None = None  # now
        self._looks = 0
        self.verdicts: dict[str, Any] = {}
        self.known: dict[str, tuple[KnownFile, ...]] = {}  # measured after the file of a name

    def start(self, request: FileRequest) -> None:
        self.requests.append(request)
        run = Path(request.output_dir, request.run_name)
        run.mkdir(exist_ok=True)
        if not (run / "plan.json").exists():
            self._disk.write(run / "plan.json", b"{}")
        self.on_start(request)

    def ask_to_stop(self) -> None:
        self.asked += 1

    def end(self) -> TrainingEnd | None:
        request = self.requests[-1]
        if self.asked:
            self.asked = 0
            return TrainingEnd(Exit.COME_BACK)
        if self.is_slow:
            return None
        ends = self._ends.get(request.name)
        end = (ends.pop(0) if len(ends) > 1 else ends[0]) if ends else None
        if end:
            return end
        self.measure()
        self.train(request)
        self._measured, self._looks = request, 0
        if self.is_beside and request.beside:
            return TrainingEnd(Exit.KEPT, is_measuring=True)
        self.measure()
        return TrainingEnd(Exit.KEPT)

    @property
    def is_measuring(self) -> bool:
        self._looks += 1
        if self._looks > 2 and not self.is_late:
            self.measure()
        return self._measured is not None

    def lose(self) -> None:
        """End what is being measured without a result."""
        self._measured = None

    def measure(self) -> None:
        """Write the table that is being measured, if there is to be one."""
        request, self._measured = self._measured, None
        if request and (known := self.known.get(request.name)):
            run = Path(request.output_dir, request.run_name)
            self._disk.write(run / FILE, encoded(StillKnown(SCHEMA, "checkpoint", known)))

    def train(self, request: FileRequest) -> None:
        run = Path(request.output_dir, request.run_name)
        if (run / "receipt.json").exists():
            return
        before: list[str] = []
        if request.parent:
            before = json.loads((newest(Path(request.parent)) / "model.json").read_text())
        source = Path(request.source)
        files = sorted(source.iterdir()) if source.is_dir() else [source]
        content = [*before, *(file.read_text() for file in files)]
        first = len(before) * STEPS
        last = len(content) * STEPS
        checkpoint = run / f"checkpoint-{last}"
        shutil.rmtree(checkpoint, ignore_errors=True)
        checkpoint.mkdir()
        (checkpoint / "model.json").write_text(json.dumps(content))
        (checkpoint / "trainer_state.json").write_text(json.dumps({"global_step": last}))
        kept = replace(
            receipt(),
            run=request.run_name,
            steps=r.ReceiptSteps(first, last, last - first, last - first),
            checkpoint=r.ReceiptCheckpoint(checkpoint.name, "5e" * 32, 100),
            learning=r.Judgment(self.verdicts.get(request.name, "improved"), ()),
        )
        self._disk.write(run / "receipt.json", encoded(kept))


def newest(run: Path) -> Path:
    """The newest checkpoint of a run."""
    return max(run.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]))


def encoded(value: object) -> bytes:
    import msgspec

    return msgspec.json.encode(value)


class World:
    """An inbox, and daemons that come and go."""

    def __init__(self, folder: Path) -> None:
        self.inbox = InboxFolder(folder / "inbox")
        self.inbox.make()
        self.now_s = 1000.0
        self.notices: list[InboxNotice] = []
        self.trainer = FakeTrainer(MortalDisk())
        self.daemon: Daemon | None = None
        self.stop = Stop()
        self.wall_time = time(12, 0)
        self.known: dict[str, tuple[KnownFile, ...]] = {}  # measured beside by trainers to come

    def drop(self, name: str, content: str = "", *, at_s: float = 0.0) -> Path:
        path = self.inbox.path / name
        path.write_text(content or f"{name}\n")
        os.utime(path, (1e9 + at_s, 1e9 + at_s))
        return path

    def queue(self, disk: MortalDisk | None = None) -> Queue:
        """The jobs as they are now, with an index in memory."""
        return Queue(self.inbox, disk or MortalDisk(), index=JobIndex(None))

    def start(
        self,
        disk: MortalDisk | None = None,
        *,
        ends: "Ends | None" = None,
        once: bool = True,
        **options: Any,
    ) -> Daemon:
        if self.daemon:
            self.daemon.close()
        disk = disk or MortalDisk()
        self.stop = Stop()
        self.trainer = FakeTrainer(disk, ends)
        self.trainer.known, self.trainer.is_beside = dict(self.known), bool(self.known)
        settings = (GivenSetting("batch_size", "8", "headway.yaml:1:1"),)
        queue, asked = self.queue(disk), InboxOptions(**options)
        hours = asked.train_between
        self.daemon = Daemon(
            queue,
            asked,
            settings,
            self.trainer,
            self.stop,
            self.notices.append,
            once=once,
            held_back=HeldBack(self.inbox, hours, wall_time=lambda: self.wall_time),
        )
        self.daemon.recover()
        return self.daemon

    def run(self, disk: MortalDisk | None = None, **options: Any) -> int:
        """A daemon until it ends."""
        daemon = self.start(disk, **options)
        for _ in range(500):
            step = daemon.step(self.now_s)
            if step.code is not None:
                daemon.close()
                return step.code
            self.now_s += step.sleep_s
        raise AssertionError("it does not end")

    def steps(self, number: int) -> None:
        """So many steps of the daemon that runs."""
        assert self.daemon is not None
        for _ in range(number):
            self.now_s += self.daemon.step(self.now_s).sleep_s

    def run_killed(self, disk: MortalDisk, **options: Any) -> bool:
        """A daemon until its disk kills it; whether it did."""
        try:
            self.run(disk, **options)
        except Killed:
            assert self.daemon is not None
            self.daemon.close()  # the kernel takes its locks
            return True
        return False

    @property
    def model(self) -> list[str]:
        """What the current model has learned, in order."""
        link = self.inbox.current_model
        return json.loads((link / "model.json").read_text()) if link.exists() else []

    @property
    def jobs(self) -> dict[str, str]:
        """The state of every job, by the name of its file; the last one of a name counts."""
        return {job.name: job.state.value for job in self.queue().jobs}

    def tree(self) -> dict[str, list[str]]:
        """What lies in the folders that people see."""
        folders = ("", "processing", "done", "failed")
        return {name: self.names(name) for name in folders}

    def names(self, folder: str) -> list[str]:
        own = {"processing", "done", "failed", ".headway", "current_model"}
        return sorted(p.name for p in (self.inbox.path / folder).iterdir() if p.name not in own)

    def beside(self, place: str) -> dict[str, Any]:
        return json.loads((self.inbox.path / f"{place}.receipt.json").read_text())

    def error(self, place: str) -> str:
        return (self.inbox.path / f"{place}.error.txt").read_text()


def refused(code: int, **parts: Any) -> TrainingEnd:
    """The end of a training that was refused."""
    from headway.base.errors import Finding

    return TrainingEnd(code, RefusalMessage(code, (Finding("refused", **parts),)))
