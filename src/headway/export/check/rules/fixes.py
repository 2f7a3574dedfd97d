"""Fixes for what a check finds: lines that can be typed, for this very folder."""

import re
import shlex
from pathlib import Path

from headway.base.errors import Remedy
from headway.export.check.folder_facts import ModelFacts

_STEP = re.compile(r"(\D*?)(\d+)")


def quoted(path: Path) -> str:
    """A path as a shell reads it."""
    return shlex.quote(str(path))


def copy_from_base(facts: ModelFacts, name: str, gives: str) -> tuple[Remedy, ...]:
    """Copies a file of the base model, if that has it."""
    if facts.base is None or name not in facts.base.names:
        return ()
    source, folder = quoted(facts.base.path / name), quoted(facts.path)
    return (Remedy(f"cp {source} {folder}/", gives),)


def export_again(facts: ModelFacts, gives: str) -> Remedy:
    """Writes the same model anew, into a folder beside it."""
    out = facts.path.with_name(f"{facts.path.name}-fixed")
    base = f" --model {quoted(facts.base.path)}" if facts.base and facts.is_adapter else ""
    return Remedy(f"headway export {quoted(facts.path)} --to hf -o {quoted(out)}{base}", gives)


def earlier(facts: ModelFacts) -> tuple[Remedy, ...]:
    """Checks the checkpoint before, where there is one beside the folder."""
    mine = _STEP.fullmatch(facts.path.name)
    if mine is None:
        return ()
    siblings = [
        (int(found[2]), path)
        for path in facts.path.parent.iterdir()
        if path.is_dir() and (found := _STEP.fullmatch(path.name)) and found[1] == mine[1]
    ]
    before = [path for number, path in sorted(siblings) if number < int(mine[2])]
    return (Remedy(f"headway check {quoted(before[-1])}", "the one before"),) if before else ()


def train_again(facts: ModelFacts, gives: str) -> Remedy:
    """Trains the same kind of model again, with proof."""
    model = facts.base.path if facts.base else None
    name = quoted(model) if model else "BASE"
    adapters = " --lora" if facts.is_adapter else ""
    return Remedy(f"headway train DATA --model {name}{adapters}", gives)


def list_folder(facts: ModelFacts) -> Remedy:
    """Shows the files."""
    return Remedy(f"ls -l {quoted(facts.path)}", "its files; copy them again from their source")
