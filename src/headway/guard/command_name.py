"""Name of a guarded run, from its command: the script, notebook or module that it runs."""

from collections.abc import Sequence
from pathlib import PurePath

from headway.config.run_name import make_run_name

_SCRIPTS = (".py", ".ipynb", ".sh", ".bash", ".pl", ".r", ".jl")


def command_name(command: Sequence[str]) -> str:
    """The name: `torchrun --nproc 2 train.py` -> "train", `python -m pkg.sft` -> "sft".

    Args:
        command: the program and its arguments.
    """
    for number, word in enumerate(command):
        if number and command[number - 1] == "-m" and not word.startswith("-"):
            return make_run_name(word.removesuffix(".__main__").rpartition(".")[2])
        path = PurePath(word)
        if path.suffix.lower() in _SCRIPTS:
            return make_run_name(path.stem)
    return make_run_name(PurePath(command[0]).name)
