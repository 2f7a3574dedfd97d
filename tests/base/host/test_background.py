"""Work in the background: its result, its error, and no wait for it at the end."""

import subprocess
import sys
import threading

import pytest

from headway.base.host.background import in_background


def test_it_gives_the_result_of_another_thread() -> None:
    future = in_background("some work", lambda: threading.current_thread().name)
    assert future.result(60) == "some work"


@pytest.mark.parametrize("error", [OSError("no space"), SystemExit(3), KeyboardInterrupt()])
def test_it_raises_whatever_was_raised(error: BaseException) -> None:
    def fail() -> None:
        raise error

    future = in_background("some work", fail)
    with pytest.raises(type(error)) as raised:
        future.result(60)
    assert raised.value is error


def test_the_end_of_a_process_does_not_wait_for_it() -> None:
    code = (
        "import threading\n"
        "from headway.base.host.background import in_background\n"
        "in_background('for ever', threading.Event().wait)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
