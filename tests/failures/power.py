"""A file system whose power is cut: from recorded system calls to every state they may leave.

What is on the disk for certain is what was synced before the cut: a file's bytes by an fsync of the
file, a name by an fsync of its folder. Everything later may be there or not, in any combination:
each sector of each write (lost, or its place filled with zeros), each name made, moved or removed.
A rename is whole or absent; nothing else is assumed, so this is harsher than any real file system.
"""

import itertools
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.failures.traced import Call

SECTOR = 512  # what a disk writes whole
FEW = 64  # combinations that are all tried; of more, a sample
KEPT, LOST, ZEROED = "kept", "lost", "zeroed"


# Files have the inodes 1, 2, 3, ...; folders 0, -1, -2, ..., 0 being the disk itself.
Named = int | str | None  # what a name names: an inode, a link's target, or nothing any more


@dataclass(frozen=True)
class Names:
    """Names that change together: folder, name, and what it names from now on."""

    now: tuple[tuple[int, str, Named], ...]


@dataclass(frozen=True)
class Piece:
    """A sector of a write to a file."""

    inode: int
    offset: int
    data: bytes


@dataclass(frozen=True)
class Sync:
    """Whatever was done to this file or folder before is on the disk now."""

    inode: int


@dataclass(frozen=True)
class Said:
    """A promise given to somebody outside: "saved 2"."""

    words: str


Step = Names | Piece | Sync | Said
Tree = dict[str, bytes | str]  # path -> bytes of a file, or where a link leads, or "/" for a folder


class Folders(dict[int, dict[str, int | str]]):
    """What each folder names."""

    def take(self, step: Names) -> None:
        for folder, name, named in step.now:
            there = self.setdefault(folder, {})
            if named is None:
                there.pop(name, None)
            else:
                there[name] = named
                if isinstance(named, int) and named < 0:
                    self.setdefault(named, {})


@dataclass
class Recording:
    """What a traced process did below `disk`, as steps.

    Raises:
        NotImplementedError: a call changed the disk that this model has no word for.
    """

    disk: str
    steps: list[Step] = field(default_factory=list)
    names: Folders = field(default_factory=lambda: Folders({0: {}}))
    open: dict[int, tuple[int, int]] = field(default_factory=dict)  # descriptor -> inode, offset
    num_inodes: int = 0

    def add(self, call: Call) -> None:
        if call.name == "close":
            self.open.pop(call.descriptor, None)
        elif call.name == "write" and call.descriptor == 1:
            self.steps.append(Said(call.strings[0].decode().strip()))
        elif not call.failed and self.disk in call.arguments:
            self._change(call)

    def _change(self, call: Call) -> None:
        match call.name:
            case "openat":
                self._opened(call)
            case "write":
                self._written(call.descriptor, call.strings[0])
            case "fsync" | "fdatasync":
                self.steps.append(Sync(self.open[call.descriptor][0]))
            case "mkdir":
                folder, name = self._place(call.strings[0])
                self._rename((folder, name, -self._new_inode()))
            case "rename":
                (source, old), (target, new) = map(self._place, call.strings)
                self._rename((source, old, None), (target, new, self.names[source][old]))
            case "unlink" | "rmdir":
                self._rename((*self._place(call.strings[0]), None))
            case "unlinkat":
                at = re.match(r"(?:AT_FDCWD|\d+)<(.*?)>", call.arguments)
                assert at is not None
                whole = f"{at[1]}/{call.strings[0].decode()}".encode()
                self._rename((*self._place(whole), None))
            case "symlink":
                target, link = call.strings
                self._rename((*self._place(link), target.decode()))
            case "chmod" | "fchmod" | "read" | "fadvise64":
                pass  # neither bytes nor names
            case _:
                raise NotImplementedError(f"{call.name}({call.arguments[:200]})")

    def _opened(self, call: Call) -> None:
        path = re.search(r"<(.*)>", call.result)
        if path is None or not path[1].startswith(self.disk):
            return
        descriptor = int(call.result.split("<")[0])
        if path[1] == self.disk:
            self.open[descriptor] = (0, 0)
            return
        folder, name = self._place(path[1].encode())
        if name not in self.names[folder]:
            self._rename((folder, name, self._new_inode()))
        elif "O_TRUNC" in call.arguments or "O_APPEND" in call.arguments:
            raise NotImplementedError(f"a file that is there is opened to write: {call.arguments}")
        inode = self.names[folder][name]
        assert isinstance(inode, int)
        self.open[descriptor] = (inode, 0)

    def _written(self, descriptor: int, data: bytes) -> None:
        inode, offset = self.open[descriptor]
        for begin in range(0, len(data), SECTOR):
            self.steps.append(Piece(inode, offset + begin, data[begin : begin + SECTOR]))
        self.open[descriptor] = (inode, offset + len(data))

    def _rename(self, *now: tuple[int, str, Named]) -> None:
        self.steps.append(Names(now))
        self.names.take(self.steps[-1])

    def _place(self, path: bytes) -> tuple[int, str]:
        """A path as the inode of its folder and its last name."""
        *folders, name = path.decode().removeprefix(self.disk).strip("/").split("/")
        inode = 0
        for folder in folders:
            below = self.names[inode][folder]
            assert isinstance(below, int)
            inode = below
        return inode, name

    def _new_inode(self) -> int:
        self.num_inodes += 1
        return self.num_inodes


def recorded(calls: Sequence[Call], disk: Path) -> list[Step]:
    """What a process did to a disk and said, in order."""
    recording = Recording(str(disk))
    for call in calls:
        recording.add(call)
    return recording.steps


def cuts(steps: Sequence[Step], each: int, seed: int) -> Iterator[tuple[list[str], Tree]]:
    """The power is cut before every sync and after the last step.

    What may be there at any instant since the sync before may be there then too, and no less has
    been promised: these cuts stand for all.

    Args:
        steps: what was done.
        each: how many states are drawn at a cut that may leave more than `FEW`.
        seed: of the draw.

    Yields:
        what had been promised, and a state that the disk may be in.
    """
    chance = random.Random(seed)
    for end, step in enumerate((*steps, Sync(0))):
        if not isinstance(step, Sync):
            continue
        done = steps[:end]
        said = [step.words for step in done if isinstance(step, Said)]
        open_steps = _not_certain(done)
        for fates in _fates(done, open_steps, each, chance):
            yield said, _state(done, dict(zip(open_steps, fates, strict=True)))


def _not_certain(done: Sequence[Step]) -> list[int]:
    """Which steps no later fsync made certain."""
    synced: set[int] = set()
    found: list[int] = []
    for number in range(len(done) - 1, -1, -1):
        match done[number]:
            case Sync(inode):
                synced.add(inode)
            case Piece(inode):
                if inode not in synced:
                    found.append(number)
            case Names(now):
                if not {folder for folder, _, _ in now} <= synced:
                    found.append(number)
            case Said():
                pass
    return found[::-1]


def _fates(
    done: Sequence[Step], numbers: Sequence[int], each: int, chance: random.Random
) -> Iterator[tuple[str, ...]]:
    choices = [
        (KEPT, LOST, ZEROED) if isinstance(done[number], Piece) else (KEPT, LOST)
        for number in numbers
    ]
    possible = 1
    for choice in choices:
        possible *= len(choice)
    if possible <= FEW:
        yield from itertools.product(*choices)
        return
    for alone, rest in ((LOST, KEPT), (KEPT, LOST)):  # each one alone against all the others
        for one in range(len(choices)):
            yield tuple(alone if n == one else rest for n in range(len(choices)))
    for _ in range(each):
        # Bytes show only below names that are kept: how much of each reached the disk is drawn.
        share = {2: chance.choice((0.5, 0.95)), 3: chance.choice((0.1, 0.5, 0.9))}
        yield tuple(
            KEPT if chance.random() < share[len(choice)] else chance.choice(choice[1:])
            for choice in choices
        )


def _state(done: Sequence[Step], fates: dict[int, str]) -> Tree:
    names = Folders({0: {}})
    files: dict[int, bytearray] = {}
    for number, step in enumerate(done):
        fate = fates.get(number, KEPT)
        if fate == LOST:
            continue
        if isinstance(step, Names):
            names.take(step)
        elif isinstance(step, Piece):
            file = files.setdefault(step.inode, bytearray())
            file.extend(bytes(max(0, step.offset + len(step.data) - len(file))))
            if fate == KEPT:
                file[step.offset : step.offset + len(step.data)] = step.data
    tree: Tree = {}
    _grow(tree, "", names[0], names, files)
    return tree


def _grow(
    tree: Tree,
    path: str,
    here: dict[str, int | str],
    names: Folders,
    files: dict[int, bytearray],
) -> None:
    for name, below in sorted(here.items()):
        if isinstance(below, str):
            tree[path + name] = below
        elif below > 0:
            tree[path + name] = bytes(files.get(below, b""))
        else:
            tree[path + name] = "/"
            _grow(tree, f"{path}{name}/", names.get(below, {}), names, files)


def put_down(tree: Tree, folder: Path) -> None:
    """Make a state of the disk below a folder."""
    for name, content in tree.items():
        path = folder / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content == "/":
            path.mkdir()
        else:
            path.symlink_to(content)
