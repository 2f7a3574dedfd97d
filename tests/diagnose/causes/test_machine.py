from dataclasses import replace

from tests.diagnose.built import evidence, process, runner, sleeper, texts, thread, work

from headway.diagnose.causes.machine import (
    find_busy_machine,
    find_cpu_quota,
    find_stopped,
    find_threads_spin,
    find_too_many_threads,
)
from headway.diagnose.diagnosis import Helps, StallCause

BARRIER = ("gomp_team_barrier_wait_end@/lib/libgomp.so.1", "gomp_thread_start@/lib/libgomp.so.1")


def test_a_stopped_process_is_named_with_the_signal_that_lets_it_go_on() -> None:
    found = find_stopped(evidence(process(7, thread(state="T"), role="worker 1 of 2")))
    assert found is not None
    assert (found.cause, found.pid, found.helps) == (StallCause.STOPPED, 7, Helps.PERSON)
    assert found.finding.remedies[0].do == "kill -CONT 7"
    assert "worker 1 of 2" in found.finding.what


def test_a_debugger_is_named() -> None:
    found = find_stopped(evidence(process(7, thread(state="t"), debugger=99)))
    assert found is not None
    assert "debugger, process 99" in found.finding.what
    assert find_stopped(evidence(process(7, thread(state="S"), debugger=99))) is None


def test_a_paused_container_is_told() -> None:
    for state, channel in (("D", "__refrigerator"), ("S", "do_freezer_trap")):
        frozen = process(7, thread(state=state, wait_channel=channel))
        found = find_stopped(evidence(frozen))
        assert found is not None
        assert "frozen by its control group" in found.finding.what
        assert "docker unpause" in texts(found)


def test_a_stopped_loader_is_left_to_the_row_of_loaders() -> None:
    loop = "_worker_loop <site>/torch/utils/data/_utils/worker.py:349"
    loader = process(8, thread(loop, state="T"), parent=7)
    assert find_stopped(evidence(process(7, sleeper()), loader)) is None


def test_a_quota_that_is_used_up() -> None:
    busy = process(7, runner())
    found = find_cpu_quota(evidence(busy, other_work=work(throttled=0.8)))
    assert found is not None
    assert found.cause is StallCause.CPU_QUOTA
    assert "80%" in found.finding.have
    assert find_cpu_quota(evidence(busy, other_work=work(throttled=0.2))) is None
    asleep = process(7, sleeper())
    assert find_cpu_quota(evidence(asleep, other_work=work(throttled=0.8))) is None
    assert find_cpu_quota(evidence(busy)) is None


def test_other_work_has_the_cores() -> None:
    busy = process(7, runner(cpu=0.4))
    found = find_busy_machine(evidence(busy, other_work=work(other_cores=7.6, busy=1.0)))
    assert found is not None
    assert (found.cause, found.helps) == (StallCause.BUSY_MACHINE, Helps.PATIENCE)
    assert "7.6 of 8 cores" in found.finding.have
    steal = find_busy_machine(evidence(busy, other_work=work(steal=0.5)))
    assert steal is not None
    assert "50%" in steal.finding.have
    assert find_busy_machine(evidence(busy, other_work=work(other_cores=2, busy=0.4))) is None
    asleep = process(7, sleeper())
    assert find_busy_machine(evidence(asleep, other_work=work(other_cores=8, busy=1.0))) is None


def test_threads_that_spin_beside_other_work() -> None:
    spinning = [runner(*BARRIER, cpu=0.9) for _ in range(3)]
    job = process(7, runner(), *spinning)
    crowded = work(other_cores=4.0, busy=1.0)
    found = find_threads_spin(evidence(job, other_work=crowded))
    assert found is not None
    assert found.cause is StallCause.THREADS_SPIN
    assert "OMP_WAIT_POLICY=PASSIVE" in texts(found)
    assert find_threads_spin(evidence(job, other_work=work(busy=0.5))) is None, "cores are free"
    waiting = [thread(*BARRIER, call="futex") for _ in range(3)]
    asleep = process(7, runner(), *waiting)
    assert find_threads_spin(evidence(asleep, other_work=crowded)) is None


def test_threads_without_python_that_run_while_the_main_thread_is_in_python() -> None:
    helpers = [runner(name="python", cpu=0.9) for _ in range(3)]
    helpers = [replace(one, frames=()) for one in helpers]
    crowded = work(other_cores=4.0, busy=1.0)
    assert find_threads_spin(evidence(process(7, runner(), *helpers), other_work=crowded))
    computes = runner("at::parallel_for@/lib/libtorch_cpu.so", "step train.py:9")
    for main in (computes, runner("mm@/lib/libtorch_cpu.so", "step train.py:9")):
        job = process(7, main, *helpers)
        assert find_threads_spin(evidence(job, other_work=crowded)) is None, "for its main thread"
    named = [replace(one, name="pt_autograd_0") for one in helpers]
    assert find_threads_spin(evidence(process(7, runner(), *named), other_work=crowded)) is None


def test_more_threads_than_cores() -> None:
    many = process(7, *(runner(cpu=0.1) for _ in range(16)))
    found = find_too_many_threads(evidence(many, cores=4))
    assert found is not None
    assert found.cause is StallCause.TOO_MANY_THREADS
    assert "16 threads of this job share 4 cores" in found.finding.what
    assert "OMP_NUM_THREADS=4" in texts(found)
    assert find_too_many_threads(evidence(many, cores=16)) is None
    four = [process(pid, *(runner(cpu=0.2) for _ in range(4))) for pid in (10, 20, 30, 40)]
    found = find_too_many_threads(evidence(*four, cores=4))
    assert found is not None
    assert "OMP_NUM_THREADS=1" in texts(found)
