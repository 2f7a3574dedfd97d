"""Signals in every phase, a terminal that closes, memory that runs out: the run can go on."""

import contextlib
import os
import pty
import signal
from pathlib import Path

import pytest

from .conftest import Headway, until

TEXT = "It was the best of times, it was the worst of times. " * 120
TRAIN = ["train", "tale.txt", "--max-length", "64", "--batch-size", "4", "--epochs", "2"]

SLOW = """
import importlib.abc, importlib.machinery, os, pathlib, time
class Slow(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "headway.training.trainer" or pathlib.Path("quick").exists():
            return None
        sys.meta_path.remove(self)
        found = importlib.util.find_spec(name)
        run = found.loader.exec_module
        def exec_module(module):
            run(module)
            def slow(*given, **options):
                pathlib.Path("in-the-middle").touch()
                time.sleep(100)
            module.{name} = slow
        found.loader.exec_module = exec_module
        return found
import importlib.util
sys.meta_path.insert(0, Slow())
"""


@pytest.mark.parametrize(
    ("phase", "function", "number", "code"),
    [
        ("loading the model", "set_up", signal.SIGTERM, 75),
        ("auditing the weights", "audit", signal.SIGINT, 130),
    ],
)
def test_o03_asked_before_the_first_step_or_after_the_last_it_stops_in_time(
    headway: Headway, phase: str, function: str, number: signal.Signals, code: int
) -> None:
    headway.write("tale.txt", TEXT)
    slow = headway.mutate("slow", SLOW.replace("{name}", function))
    process = headway.start(*TRAIN, **slow)
    until((headway.here / "in-the-middle").exists)
    entered = [e["phase"] for e in headway.events("tale") if e["event"] == "phase_entered"]
    assert entered[-1] == phase
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    assert process.returncode == code, err
    last = out.strip().splitlines()[-1]
    if function == "set_up":
        assert last.startswith("stopped by SIGTERM before the first step: nothing to save")
        assert last.endswith("the same command starts it again")
    else:
        steps = headway.plan("tale")["steps"]["num"]
        assert f"{steps} of {steps} steps, saved (SIGINT)" in last
        assert headway.receipt("tale")["outcome"] == "interrupted"
    again = headway(*TRAIN)
    assert again.code == 0, again.err
    assert headway.receipt("tale")["contract"]["verdict"] == "kept"


def test_a_terminal_that_closes_does_not_end_a_run(headway: Headway) -> None:
    headway.write("tale.txt", TEXT)
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(headway.here)
        os.execvpe(headway.command()[0], headway.command(*TRAIN), headway.environment)
    os.set_blocking(terminal, False)

    def has_stepped() -> bool:
        with contextlib.suppress(BlockingIOError):  # what nobody reads would fill the terminal
            os.read(terminal, 1 << 16)
        return any(e["event"] == "step_done" for e in headway.events("tale"))

    until(has_stepped)
    os.close(terminal)  # the kernel sends SIGHUP, and what is written fails
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert headway.receipt("tale")["contract"]["verdict"] == "kept"


def test_touching_a_file_saves_and_a_damaged_checkpoint_is_put_away(headway: Headway) -> None:
    """The newest checkpoint is cut short while the run is down; nobody has to do anything."""
    headway.write("tale.txt", TEXT)
    words = [*TRAIN[:-1], "40", "--save-steps", "10000"]
    process = headway.start(*words)
    until(lambda: any(e["event"] == "step_done" for e in headway.events("tale")))
    run = headway.here / "runs" / "tale"
    (run / "save").touch()
    until(lambda: any(e["event"] == "saved" for e in headway.events("tale")))
    assert not (run / "save").exists()
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 75
    saved = [e["checkpoint"] for e in headway.events("tale") if e["event"] == "saved"]
    assert len(saved) == 2
    os.truncate(run / saved[1] / "model.safetensors", 1000)
    told = headway(*words[:-2], "--save-steps", "10000", "--max-time", "1s")
    assert told.code == 75, told.err
    shown = " ".join(told.out.split())
    assert f"moved to quarantine/{saved[1]}, resuming from {saved[0]}" in shown
    assert (run / "quarantine" / saved[1]).is_dir()
    assert headway.receipt("tale")["contract"]["verdict"] == "kept"


def test_f54_memory_that_runs_out_is_gone_on_with_in_smaller_pieces(headway: Headway) -> None:
    headway.write("tale.txt", TEXT)
    little = headway.mutate(
        "little",
        """
import importlib.abc, importlib.util
class Little(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "headway.model.forward":
            return None
        sys.meta_path.remove(self)
        found = importlib.util.find_spec(name)
        run = found.loader.exec_module
        def exec_module(module):
            run(module)
            loss, micros = module.Forward.loss, []
            def limited(self, micro, num_trained):
                import torch
                micros.append(micro)
                if len(micros) > 3 and len(micro.ids_N) > 128:
                    raise torch.OutOfMemoryError("CUDA out of memory.")
                return loss(self, micro, num_trained)
            module.Forward.loss = limited
        found.loader.exec_module = exec_module
        return found
sys.meta_path.insert(0, Little())
""",
    )
    told = headway(*TRAIN, **little)
    assert told.code == 0, told.err
    shown = " ".join(told.out.split())
    assert "out of memory: micro-batches of 128 tokens from here on" in shown
    assert headway.receipt("tale")["contract"]["verdict"] == "kept"
    assert headway.settled("tale")["micro_batch_tokens"] == 128

    told = headway(*TRAIN, "--fresh", "--exact", **little)
    assert told.code == 5
    assert "out of memory while training" in told.err
    assert "--micro-batch-tokens 128" in told.err
    done = headway.receipt("tale")["steps"]["applied"]
    assert done == 3
    assert Path(headway.here, "runs/tale/checkpoint-3").is_dir()
    again = headway(*TRAIN, "--micro-batch-tokens", "128", **little)
    assert again.code == 0, again.err
    assert "from here on with micro-batches of 128 tokens" in " ".join(again.out.split())
    assert headway.receipt("tale")["contract"]["verdict"] == "kept"
    assert headway.settled("tale")["micro_batch_tokens"] == 128
