"""The text every machine has, and a model for it: the standard library's own sources."""

import sysconfig
from pathlib import Path

from headway.config.resolve import resolve
from headway.config.settings import Given, Settings

ORIGIN = "the demo"
STEPS = 600
PROMPTS = ("def read(self, path):\n", "class ")


def sources() -> tuple[str, ...]:
    """The pattern that names the modules at the top of Python's standard library, about 5 MB."""
    return (str(Path(sysconfig.get_path("stdlib"), "*.py")),)


def settings(given: tuple[Given, ...]) -> Settings:
    """The demo's settings; what a person types comes on top of them.

    Raises:
        Refusal: what was typed does not fit.
    """
    ours = {
        "preset": "mini",
        "run_name": "demo",
        "batch_size": 4,
        "vocab_size": 1024,
        "max_steps": STEPS,
        "val_size": 64,
        "eval_steps": 200,
        "sample_prompts": PROMPTS,
        "sample_steps": 200,
        "sample_tokens": 48,
    }
    return resolve((*(Given(name, value, ORIGIN) for name, value in ours.items()), *given))
