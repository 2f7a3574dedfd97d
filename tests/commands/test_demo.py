"""The demo: data every machine has, and settings that a person may override."""

from pathlib import Path

import pytest

from headway.base.errors import Cause, Refusal, UsageError
from headway.commands import demo
from headway.config.command_line import Arguments
from headway.config.settings import Given


def test_its_data_is_on_this_machine() -> None:
    (pattern,) = demo.sources()
    files = list(Path(pattern).parent.glob(Path(pattern).name))
    assert sum(file.stat().st_size for file in files) > 1_000_000


def test_what_a_person_types_overrides_its_settings() -> None:
    assert demo.settings(()).max_steps == demo.STEPS
    changed = demo.settings((Given("max_steps", "5", "--max-steps"),))
    assert (changed.max_steps, changed.preset, changed.run_name) == (5, "mini", "demo")
    with pytest.raises(Refusal):
        demo.settings((Given("max_steps", "many", "--max-steps"),))


def test_it_takes_no_data() -> None:
    with pytest.raises(UsageError) as refused:
        demo.demo(Arguments(words=["notes.txt"]))
    assert refused.value.cause is Cause.UNEXPECTED_ARGUMENT
    assert refused.value.remedies[0].do == "headway train notes.txt"
