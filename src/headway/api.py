"""plan() and train() for scripts and notebooks: the same supervisor, returns the receipt."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headway.base.errors import BrokenContract, Remedy
from headway.config.resolve import resolve
from headway.config.settings import Given, Settings
from headway.runs.plan import Plan
from headway.runs.receipt import Receipt
from headway.supervise.supervisor import Request, Supervisor
from headway.ui.screens import make_screen

Data = str | Path | Sequence[str | Path]


def plan(data: Data, **settings: Any) -> Plan:
    """Read the data and decide everything; train nothing.

    Args:
        data: a file, folder or pattern, or several.
        settings: by the names in docs/configuration.md: max_length=128, learning_rate=2e-4, ...

    Raises:
        Refusal: it cannot be done; the text says what, have, need and try.
    """
    result = Supervisor(
        _order(data, settings), make_screen(sys.stdout, sys.stderr, quiet=True)
    ).plan()
    assert result.plan is not None, "a plan, or a refusal"
    return result.plan


def train(data: Data, *, quiet: bool = False, **settings: Any) -> Receipt:
    """Plan, train and prove; the run's folder is made under `output_dir`.

    Needs no `if __name__ == "__main__"` around it: the trainer is a process of its own.

    Args:
        data: a file, folder or pattern, or several.
        quiet: print the closing line only.
        settings: by the names in docs/configuration.md.

    Raises:
        Refusal: it could not be done, or the run's contract is broken.
    """
    result = Supervisor(
        _order(data, settings), make_screen(sys.stdout, sys.stderr, quiet=quiet)
    ).train()
    if result.receipt is None:
        raise BrokenContract(
            "the run ended without a receipt",
            have=f"exit code {result.code}",
            need="a run that ends",
            remedies=(Remedy(f"headway logs {result.folder}", "what happened"),),
        )
    return result.receipt


def _order(data: Data, settings: dict[str, Any]) -> Request:
    sources = (data,) if isinstance(data, str | Path) else tuple(data)
    given = [Given(name, value, "you") for name, value in settings.items()]
    resolved: Settings = resolve(given)
    return Request(tuple(str(source) for source in sources), resolved, ("headway.train",))
