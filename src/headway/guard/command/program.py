"""Program of a command: where it is, or why it cannot be started and what may have been meant."""

import os
import shlex
import shutil
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from headway.base.errors import Cause, Remedy, UsageError
from headway.config.typos import nearest

_DEFAULT_PATH = b"/usr/local/bin:/usr/bin:/bin"


def find_program(command: Sequence[str], environment: Mapping[bytes, bytes]) -> str:
    """The file that a shell would start for a command.

    Args:
        command: the program and its arguments.
        environment: the PATH in it is searched.

    Raises:
        UsageError: there is no such program, or it may not be started.
    """
    word = command[0]
    path = os.fsdecode(environment.get(b"PATH", _DEFAULT_PATH))
    if os.sep in word:
        return _at(Path(word), command)
    found = shutil.which(word, path=path)
    if found is None:
        raise _not_found(command, path)
    return found


def _at(path: Path, command: Sequence[str]) -> str:
    """A program that was named by its path."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise _no_such_file(path, command, error) from error
    if stat.S_ISDIR(mode):
        raise UsageError(
            f"{path} is a folder",
            cause=Cause.INVALID_VALUE,
            have=str(path),
            need="a program",
            remedies=(Remedy(f"ls {shlex.quote(str(path))}", "what is in it"),),
        )
    if not os.access(path, os.X_OK):
        raise _not_executable(path, command)
    return str(path)


def _no_such_file(path: Path, command: Sequence[str], error: OSError) -> UsageError:
    near = nearest(path.name, _names_in(path.parent))
    remedies = [Remedy(_typed((str(path.parent / near), *command[1:])))] if near else []
    return UsageError(
        f"cannot start {path}: {error.strerror}",
        cause=Cause.SOURCE_NOT_FOUND,
        have=f"{path}: {error.strerror}",
        need="a program that exists",
        remedies=(*remedies, Remedy(f"ls {shlex.quote(str(path.parent))}", "what is there")),
    )


def _not_executable(path: Path, command: Sequence[str]) -> UsageError:
    reader = _interpreter(path)
    remedies = [Remedy(_typed((*reader, *command)))] if reader else []
    quoted = shlex.quote(str(path))
    return UsageError(
        f"{path} is not executable",
        cause=Cause.ACCESS_DENIED,
        have=f"{path}, mode {stat.filemode(path.stat().st_mode)}",
        need="a program, or an interpreter before it",
        remedies=(*remedies, Remedy(f"chmod +x {quoted}", "if it is a program")),
    )


def _not_found(command: Sequence[str], path: str) -> UsageError:
    word = command[0]
    remedies: list[Remedy] = []
    here = Path(word)
    if len(command) == 1 and len(words := _words(word)) > 1:
        remedies.append(Remedy(_typed(words), "the same as several words"))
    elif here.is_file():
        reader = _interpreter(here)
        if reader:
            remedies.append(Remedy(_typed((*reader, *command))))
        if os.access(here, os.X_OK):
            remedies.append(Remedy(_typed((f".{os.sep}{word}", *command[1:]))))
    elif near := nearest(word, _programs(path)):
        remedies.append(Remedy(_typed((near, *command[1:]))))
    elif word == "python" and shutil.which("python3", path=path):
        remedies.append(Remedy(_typed(("python3", *command[1:]))))
    return UsageError(
        f"there is no program {word}",
        cause=Cause.SOURCE_NOT_FOUND,
        have=f"{word}, which is in no folder of PATH",
        need="a program, as after a shell's prompt; not an alias or a shell function",
        remedies=tuple(remedies) or (Remedy(f"command -v {shlex.quote(word)}", "where it is"),),
    )


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:  # a quotation mark without its pair
        return text.split()


def _interpreter(path: Path) -> tuple[str, ...]:
    """What runs a script, by the end of its name."""
    by_ending = {".py": ("python",), ".sh": ("sh",), ".bash": ("bash",), ".pl": ("perl",)}
    return by_ending.get(path.suffix, ())


def _typed(command: Sequence[str]) -> str:
    return f"headway guard -- {shlex.join(command)}"


def _programs(path: str) -> list[str]:
    return [name for folder in path.split(os.pathsep) for name in _names_in(Path(folder or "."))]


def _names_in(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - names alone
    except OSError:
        return []
