"""Commands of the examples, parsed by the programs that they start."""

import re
import shlex
from pathlib import Path
from typing import Any

from torch.distributed.run import get_args_parser

from headway.commands import train
from headway.config.command_line import parse
from headway.config.settings import Settings

EXAMPLES = Path(__file__).parents[2] / "examples"
WORKER = "headway.training.worker"


def words_of(command: str | list[str]) -> list[str]:
    """A command as a list of words."""
    return shlex.split(command) if isinstance(command, str) else command


def plan_of(command: str | list[str]) -> tuple[str, tuple[str, ...], Settings]:
    """The run, the data and the settings of a `headway plan`."""
    program, verb, *words = words_of(command)
    assert (program, verb) == ("headway", "plan")
    arguments = parse(words, train.VERBS["plan"].options, settings=True)
    sources, settings = arguments.settings()
    run = arguments.switches["save"]
    return run, sources, train.saved_as(run, settings)


def torchrun_of(command: str | list[str]) -> Any:
    """The options of a `torchrun` of our worker, as torchrun itself reads them."""
    program, *words = words_of(command)
    assert program == "torchrun"
    options = get_args_parser().parse_args(words)
    assert options.module
    assert options.training_script == WORKER
    return options


def seconds(text: str) -> float:
    """The seconds of "90", "60s", "2min" or "1h"."""
    number, unit = re.fullmatch(r"(\d+)(s|min|h|)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"": 1, "s": 1, "min": 60, "h": 3600}[unit]
