"""System calls: the one that a thread is in, and its descriptor."""

import pytest

from headway.diagnose.evidence.kernel.system_calls import system_call


@pytest.mark.parametrize(
    ("line", "machine", "call"),
    [
        ("0 0x5 0x7ffe 0x1000 0x0 0x0 0x0 0x7ffd 0x7f8a\n", "x86_64", ("read", 5)),
        ("63 0x0 0x7ffe", "aarch64", ("read", 0)),
        ("202 0x7f12 0x189", "x86_64", ("futex", -1)),
        ("202 0x4 0x0", "aarch64", ("accept", 4)),
        ("73 0x9 0x2", "x86_64", ("flock", 9)),
        ("73 0x9 0x2", "riscv64", ("ppoll", -1)),
        ("9999 0x5", "x86_64", ("", -1)),
        ("-1 0x7ffd 0x7f8a", "x86_64", ("", -1)),
        ("0 0x5", "unheard-of", ("", -1)),
        ("running\n", "x86_64", ("", -1)),
        ("", "x86_64", ("", -1)),
    ],
)
def test_calls(line: str, machine: str, call: tuple[str, int]) -> None:
    assert system_call(line, machine) == call
