"""F02 with the real trainer: killed at each durable system call that a training makes."""

import itertools

import pytest
from tests.failures.traced import strace

from .conftest import Headway


@pytest.mark.chaos
@pytest.mark.parametrize("call", ["fsync", "rename", "symlink", "fchmod"])
def test_f02_killed_at_any_durable_call_the_same_command_goes_on(
    headway: Headway, call: str
) -> None:
    headway.write("notes.txt", "All work and no play makes Jack a dull boy. " * 20)
    for number in itertools.count(1):
        name = f"{call}-{number}"
        command = ("train", "notes.txt", "--preset", "tiny", "--max-length", 16, "--save-steps", 2)
        kill = f"signal=KILL:when={number}"
        headway.before = strace(headway.here / "trace", kill, calls=call)
        killed = headway(*command, "--run-name", name)
        headway.before = []
        again = headway(*command, "--run-name", name)
        assert again.code == 0, again.out + again.err
        assert "once each" in again.out or "already trained" in again.out
        if killed.code == 0:
            assert number > 1, f"a training makes no {call}"
            break
