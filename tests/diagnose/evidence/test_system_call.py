import os
import subprocess
import sys
import time

import pytest

from headway.diagnose.evidence.system_call import SystemCall, parse, system_call

NOTHING = SystemCall()


@pytest.mark.parametrize(
    ("text", "machine", "expected"),
    [
        ("0 0x0 0x7f 0x1 0x0 0x0 0x0 0x7ffd 0x7f08\n", "x86_64", SystemCall("read", 0)),
        ("63 0x5 0x7f 0x1 0x0 0x0 0x0 0x7ffd 0x7f08\n", "aarch64", SystemCall("read", 5)),
        ("202 0x55f2b2857880 0x189 0x0\n", "x86_64", SystemCall("futex", 0x55F2B2857880)),
        ("0 0x0\n", "riscv64", NOTHING),
        ("-1 0x7ffd 0x7f08\n", "x86_64", NOTHING),
        ("9999 0x7ffd\n", "x86_64", NOTHING),
        ("running\n", "x86_64", NOTHING),
        ("0\n", "x86_64", NOTHING),
        ("0 zero\n", "x86_64", NOTHING),
        ("", "x86_64", NOTHING),
    ],
)
def test_a_line_of_the_kernel(text: str, machine: str, expected: SystemCall) -> None:
    assert parse(text, machine) == expected


def test_a_process_that_reads_a_pipe_names_its_descriptor() -> None:
    read, write = os.pipe()
    command = [sys.executable, "-c", "import os, sys; os.read(int(sys.argv[1]), 1)", str(read)]
    with subprocess.Popen(command, pass_fds=[read]) as child:
        try:
            while system_call(child.pid, child.pid) != SystemCall("read", read):
                time.sleep(0.01)
        finally:
            os.close(write)
            os.close(read)
            child.kill()
    assert system_call(child.pid, child.pid) == NOTHING, "it is gone"
