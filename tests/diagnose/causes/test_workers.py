from tests.diagnose.built import evidence, process, runner, sleeper, thread

from headway.diagnose.causes.workers import find_collective, find_rank_dead
from headway.diagnose.diagnosis import Helps, StallCause

DIST = "<site>/torch/distributed"


def inside(function: str = "all_reduce", line: int = 30) -> tuple[str, ...]:
    return (
        f"{function} {DIST}/distributed_c10d.py:2806",
        f"wrapper {DIST}/c10d_logger.py:81",
        f"step train.py:{line}",
    )


REDUCE = thread(*inside(), call="futex")
SHELL = process(1, thread(call="wait4"), command=("torchrun",))


def test_the_rank_that_is_elsewhere_is_named_and_where_it_is() -> None:
    late = process(12, sleeper("evaluate train.py:50"), role="worker 2 of 3")
    one = [process(10 + rank, REDUCE, role=f"worker {rank} of 3") for rank in (0, 1)]
    found = find_collective(evidence(*one, late))
    assert found is not None
    assert (found.cause, found.pid, found.helps) == (StallCause.COLLECTIVE, 12, Helps.RESTART)
    assert "all_reduce, which worker 2 of 3 has not reached" in found.finding.what
    assert "worker 2 of 3 is in evaluate (train.py:50)" in found.finding.have
    assert "worker 0 of 3 waits in all_reduce, called from step (train.py:30)" in found.finding.have


def test_a_rank_that_computes_may_be_about_to_come() -> None:
    pair = (process(10, REDUCE), process(11, runner("step train.py:20")))
    assert find_collective(evidence(*pair)) is None
    found = find_collective(evidence(*pair, silent_s=60.0))
    assert found is not None
    assert found.helps is Helps.PATIENCE


def test_workers_in_two_collectives_are_told_apart() -> None:
    pair = (process(10, REDUCE), process(11, thread(*inside("barrier", 40), call="futex")))
    found = find_collective(evidence(*pair))
    assert found is not None
    assert "different collectives: all_reduce and barrier" in found.finding.what


def test_workers_that_wait_for_others_to_join() -> None:
    joins = thread(*inside("init_process_group"), call="futex")
    found = find_collective(evidence(process(10, joins)))
    assert found is not None
    assert "for the others to join" in found.finding.what
    assert "MASTER_ADDR" in found.finding.need


def test_workers_all_in_one_collective_wait_for_another_machine() -> None:
    found = find_collective(evidence(process(10, REDUCE), process(11, REDUCE)))
    assert found is not None
    assert "network" in found.finding.need
    assert find_collective(evidence(process(10, sleeper()))) is None


def test_a_rank_that_is_missing_is_dead() -> None:
    found = find_rank_dead(evidence(process(10, REDUCE, role="worker 0 of 2"), missing=(1,)))
    assert found is not None
    assert found.cause is StallCause.RANK_DEAD
    assert found.finding.what == "worker 1 is gone"
    assert "worker 0 of 2 waits in all_reduce" in found.finding.have
    nobody = find_rank_dead(evidence(missing=(0, 1)))
    assert nobody is not None
    assert "no worker is left" in nobody.finding.have


def test_a_worker_that_has_ended_is_dead_if_others_wait_for_it() -> None:
    ended = process(11, thread(state="Z"), parent=1, command=())
    found = find_rank_dead(evidence(SHELL, process(10, REDUCE, parent=1), ended))
    assert found is not None
    assert found.pid == 11
    assert find_rank_dead(evidence(SHELL, process(10, runner(), parent=1), ended)) is None
    assert find_rank_dead(evidence(process(10, REDUCE))) is None
