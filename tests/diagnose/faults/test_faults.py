"""Faults injected into real processes: the right cause is named; slow work is not blamed.

Every case runs once here; `make chaos` runs each 20 times.
"""

from pathlib import Path

import pytest
from tests.diagnose.faults import scene
from tests.diagnose.faults.scene import Fault, plain

from headway.base.errors import four_parts
from headway.diagnose.diagnosis import Diagnosis, Helps, StallCause

TRIALS, RIGHT = 20, 19
FAULTS = {
    "stopped": Fault(scene.stopped_by_signal, StallCause.STOPPED, ("kill -CONT",)),
    "debugger": Fault(scene.held_by_debugger, StallCause.STOPPED, ("debugger, process",)),
    "deadlock-two-locks": Fault(
        plain("deadlock_two_locks"),
        StallCause.DEADLOCK,
        ("the lock `self.file_lock` in Saver.train_step", 'thread "saver" has it, in Saver.save'),
    ),
    "deadlock-same-lock": Fault(
        plain("deadlock_same_lock"), StallCause.DEADLOCK, ("the lock `step_lock` in on_step_end",)
    ),
    "deadlock-queue": Fault(
        plain("deadlock_queue"), StallCause.DEADLOCK, ("an item from `batches` in next_batch",)
    ),
    "deadlock-join": Fault(
        plain("deadlock_join"), StallCause.DEADLOCK, ("the end of thread `thread` in finish",)
    ),
    "gil-regex": Fault(
        plain("gil_regex"), StallCause.GIL_HELD, ("clean (gil_regex.py", "is in re.match")
    ),
    "gil-regex-alone": Fault(plain("gil_regex_alone"), StallCause.GIL_HELD, ("called by clean",)),
    "gil-native": Fault(plain("gil_native"), StallCause.GIL_HELD, ("called by call_library",)),
    "loader-dead": Fault(plain("loader_dead"), StallCause.LOADER_DEAD, ("state Z", "next_batch")),
    "loader-frozen": Fault(
        scene.frozen_loader, StallCause.LOADER_FROZEN, ("stopped (SIGSTOP)", "kill -CONT")
    ),
    "loader-locked": Fault(
        plain("loader_locked"), StallCause.LOADER_FROZEN, ("the lock `cache_lock`", "spawn")
    ),
    "pool-frozen": Fault(
        scene.frozen_pool, StallCause.LOADER_FROZEN, ("stopped (SIGSTOP)", "kill -CONT")
    ),
    "pipe-full": Fault(
        plain("pipe_full"), StallCause.DEADLOCK, ("a pipe that nobody reads", "prepare")
    ),
    "missing-rank-torchrun": Fault(
        scene.missing_rank_of_torchrun,
        StallCause.COLLECTIVE,
        ("worker 1 of 2 has not reached", "evaluate (missing_rank.py"),
    ),
    "missing-rank": Fault(
        scene.missing_rank,
        StallCause.COLLECTIVE,
        ("all_reduce, which worker 1 of 2 has not reached", "evaluate (missing_rank.py"),
    ),
    "joining-rank": Fault(
        scene.joining_rank, StallCause.COLLECTIVE, ("for the others to join", "set_up")
    ),
    "dead-rank": Fault(scene.dead_rank, StallCause.RANK_DEAD, ("worker 1 is gone",)),
    "disk-full": Fault(scene.full_disk, StallCause.DISK_FULL, ("df -h", "save (disk_full.py")),
    "disk-slow": Fault(scene.frozen_disk, StallCause.DISK_SLOW, ("state D", "model.bin", "save")),
    "lock-file": Fault(
        plain("lock_file", "{folder}"), StallCause.LOCK_FILE, ("asked for by build_extension",)
    ),
    "lock-held": Fault(
        plain("lock_held", "{folder}/a.lock"), StallCause.LOCK_FILE, ("a.lock", "kill ")
    ),
    "tracker": Fault(
        plain("tracker", "{folder}"), StallCause.TRACKER, ("wandb", "on_log", "WANDB_MODE=offline")
    ),
    "tokenizer": Fault(
        plain("tokenizer", "{folder}"), StallCause.TOKENIZER, ("rows.jsonl:42", "tokenize")
    ),
    "dns": Fault(scene.silent_name_server, StallCause.NETWORK, ("DNS", "download")),
    "connect": Fault(plain("connect"), StallCause.NETWORK, ("connection to 127.0.0.1", "download")),
    "no-answer": Fault(plain("no_answer"), StallCause.NETWORK, ("from 127.0.0.1", "ask_store")),
    "first-bytes": Fault(
        plain("first_bytes"), StallCause.FIRST_BYTES, ("127.0.0.1", "open_stream")
    ),
    "slow-stream": Fault(plain("slow_stream"), StallCause.SLOW_SOURCE, ("127.0.0.1", "read_rows")),
    "fsspec-stream": Fault(
        plain("fsspec_stream"), StallCause.SLOW_SOURCE, ("127.0.0.1", "read_rows")
    ),
    "standard-input": Fault(
        plain("standard_input"), StallCause.STANDARD_INPUT, ("ask (standard_input.py",)
    ),
    "sleeping": Fault(plain("sleeping"), StallCause.SLEEPING, ("wait_for_model", "time.sleep")),
    "busy-machine": Fault(
        scene.busy_machine, StallCause.BUSY_MACHINE, ("other processes used", "transform")
    ),
    "many-threads": Fault(
        plain("many_threads"),
        StallCause.TOO_MANY_THREADS,
        ("threads of this job share", "OMP_NUM_THREADS="),
    ),
}
# What is slow but healthy, with what may be told of it; a machine under load may always be told.
HEALTHY = {
    "compile": (plain("compile_native", "{folder}"), {StallCause.COMPILING}),
    "torch.compile": (plain("compile_torch", "{folder}"), {StallCause.COMPILING}),
    "long save": (
        plain("long_save", "{folder}/model.bin"),
        {StallCause.DISK_SLOW, StallCause.COMPUTING, StallCause.UNKNOWN},
    ),
    "slow loader": (plain("loader_slow"), {StallCause.SLOW_SOURCE}),
    "native code": (plain("native_computing"), {StallCause.COMPUTING}),
    "loop": (plain("computing"), {StallCause.COMPUTING}),
}


def shown(found: Diagnosis) -> str:
    finding = found.finding
    parts = four_parts(finding.what, finding.have, finding.need, finding.remedies, 10_000)
    return "\n".join(parts)


@pytest.mark.parametrize("name", FAULTS)
def test_the_cause_of_a_fault_is_named(name: str, tmp_path: Path) -> None:
    fault = FAULTS[name]
    found = fault.trial(tmp_path / name)
    text = shown(found)
    assert found.cause is fault.cause, text
    assert [words for words in fault.says if words not in text] == [], text


@pytest.mark.parametrize("name", HEALTHY)
def test_what_is_slow_and_gets_on_is_not_accused(name: str, tmp_path: Path) -> None:
    arrange, causes = HEALTHY[name]
    found = Fault(arrange, StallCause.HEALTHY).trial(tmp_path / name)
    assert found.cause in causes | {StallCause.BUSY_MACHINE}, shown(found)
    assert found.helps is Helps.PATIENCE or found.cause is StallCause.UNKNOWN


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", FAULTS)
def test_the_cause_of_a_fault_is_named_again_and_again(name: str, tmp_path: Path) -> None:
    fault = FAULTS[name]
    found = [fault.trial(tmp_path / str(number)) for number in range(TRIALS)]
    wrong = [shown(one) for one in found if one.cause is not fault.cause]
    assert TRIALS - len(wrong) >= RIGHT, "\n\n".join(wrong)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", HEALTHY)
def test_what_is_slow_and_gets_on_is_never_accused(name: str, tmp_path: Path) -> None:
    arrange, _ = HEALTHY[name]
    fault = Fault(arrange, StallCause.HEALTHY)
    found = [fault.trial(tmp_path / str(number)) for number in range(TRIALS)]
    wrong = [shown(one) for one in found if one.helps is not Helps.PATIENCE]
    assert wrong == []
