"""Commands of the examples, parsed by the programs that they start."""

import re
import shlex
from pathlib import Path
from typing import Any

from torch.distributed.run import get_args_parser

from headway.commands import train
from headway.commands.services import inbox
from headway.commands.services.inbox_switches import OPTIONS
from headway.config.command_line import parse
from headway.config.settings import Settings
from headway.inbox.folder import InboxFolder
from headway.inbox.options import InboxOptions, read_inbox_settings, settings_of_file

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


def inbox_of(command: str | list[str]) -> tuple[str, Settings, InboxOptions]:
    """The folder, the settings of training and the options of a `headway inbox start`."""
    program, *verb = words_of(command)
    assert [program, *verb[:2]] == ["headway", "inbox", "start"]
    arguments = parse(verb[1:], inbox.VERBS["inbox"].options, settings=True)
    assert not arguments.problems
    switches = {name: arguments.switches[name] for name in OPTIONS if name in arguments.switches}
    folder = InboxFolder(Path(arguments.words[1]))
    found = read_inbox_settings(folder, arguments.given, switches, has_trained=False)
    settings = settings_of_file(
        found.settings, found.first_model, run_name="0001-a", output_dir="runs", parent=""
    )
    return str(folder.path), settings, found.options
