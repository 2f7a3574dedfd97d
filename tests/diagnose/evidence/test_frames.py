"""Frames: libraries, the standard library, Headway, and a program's own code."""

import pytest

from headway.diagnose.evidence.facts import Frame
from headway.diagnose.evidence.frames import is_own, module_of, own_frame

SITE = "/venv/lib/python3.11/site-packages"
NATIVE = Frame("clock_nanosleep", "", 0, "/usr/lib/libc.so.6")
SLEEP = Frame("wait", "/usr/lib/python3.11/threading.py", 327)
TORCH = Frame("backward", f"{SITE}/torch/_tensor.py", 626)
SCRIPT = Frame("train", "/home/a/train.py", 12)
OURS = Frame("step", f"{SITE}/headway/training/step.py", 40)


@pytest.mark.parametrize(
    ("file", "module"),
    [
        (f"{SITE}/torch/utils/data/dataloader.py", "torch.utils.data.dataloader"),
        (f"{SITE}/torch/__init__.py", "torch"),
        ("/usr/lib/python3/dist-packages/yaml/nodes.py", "yaml.nodes"),
        ("/usr/lib/python3.11/multiprocessing/queues.py", "multiprocessing.queues"),
        ("/opt/lib64/python3.13t/threading.py", "threading"),
        ("<frozen importlib._bootstrap>", "importlib._bootstrap"),
        ("/src/headway/src/headway/base/pulse.py", "headway.base.pulse"),
        ("/home/a/train.py", ""),
        ("<stdin>", ""),
        ("", ""),
    ],
)
def test_a_file_has_a_module(file: str, module: str) -> None:
    assert module_of(file) == module


@pytest.mark.parametrize(
    ("frame", "own"),
    [(SCRIPT, True), (OURS, True), (TORCH, False), (SLEEP, False), (NATIVE, False)],
)
def test_what_is_a_programs_own(frame: Frame, own: bool) -> None:
    assert is_own(frame) is own


def test_the_innermost_call_of_the_program() -> None:
    assert (
        own_frame((NATIVE, SLEEP, TORCH, SCRIPT, Frame("main", "/home/a/train.py", 90))) == SCRIPT
    )
    assert own_frame((NATIVE, SLEEP, TORCH)) == SLEEP
    assert own_frame((NATIVE,)) is None
