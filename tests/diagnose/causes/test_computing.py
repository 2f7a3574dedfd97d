from tests.diagnose.built import (
    evidence,
    frame,
    locked,
    process,
    pulse,
    runner,
    sleeper,
    texts,
    thread,
)

from headway.diagnose.causes.computing import (
    find_compiling,
    find_computing,
    find_healthy,
    find_unknown,
    unknown,
)
from headway.diagnose.diagnosis import Helps, StallCause
from headway.diagnose.evidence.facts import GpuFacts


def test_workers_whose_pulse_is_fresh_get_on() -> None:
    fresh = (pulse(updated=99.5), pulse(rank=1, updated=99.0, step=4))
    found = find_healthy(evidence(process(7, runner()), pulses=fresh, now_s=100.0))
    assert found is not None
    assert (found.cause, found.finding.kind) == (StallCause.HEALTHY, "ok")
    assert "2 workers, training, step 3 of 10" in found.finding.what
    assert "1.0 s old" in found.finding.have


def test_no_worker_gets_on_that_is_silent_waits_is_stopped_or_missing() -> None:
    fresh, running = pulse(updated=99.5), process(7, runner())
    waits = pulse(updated=99.9, waiting="data", waiting_since=60.0)
    stale = pulse(updated=90.0)
    for pulses in ((), (stale,), (fresh, stale), (waits,)):
        assert find_healthy(evidence(running, pulses=pulses, now_s=100.0)) is None
    known = {"pulses": (fresh,), "now_s": 100.0}
    assert find_healthy(evidence(running, **known, missing=(1,))) is None
    assert find_healthy(evidence(running, **known, silent_s=30.0)) is None
    assert find_healthy(evidence(process(7, thread(state="T")), **known)) is None


def test_compilers_below_it() -> None:
    waits = thread("Popen.wait <std>/subprocess.py:1264", "build ops.py:3", call="wait4")
    compiler = process(8, runner(), parent=7, command=("/usr/bin/cc1plus", "-O3"))
    found = find_compiling(evidence(process(7, waits), compiler))
    assert found is not None
    assert (found.cause, found.pid, found.helps) == (StallCause.COMPILING, 7, Helps.PATIENCE)
    assert "cc1plus" in found.finding.what


def test_the_compiler_of_torch() -> None:
    inductor = runner(
        "Scheduler.fuse <site>/torch/_inductor/scheduler.py:100",
        "_compile <site>/torch/_dynamo/convert_frame.py:600",
        "compile_wrapper <site>/torch/_dynamo/eval_frame.py:800",
        "step train.py:20",
    )
    found = find_compiling(evidence(process(7, inductor)))
    assert found is not None
    assert "TORCH_LOGS=recompiles" in texts(found)


def test_code_that_was_compiled_does_not_compile() -> None:
    compiled = runner(
        "call /tmp/inductor/abc.py:30",
        "CompiledFxGraph.__call__ <site>/torch/_inductor/output_code.py:600",
        "_fn <site>/torch/_dynamo/eval_frame.py:800",
        "step train.py:20",
    )
    assert find_compiling(evidence(process(7, compiled))) is None
    assert find_compiling(evidence(process(7, runner()))) is None


def test_work_on_the_cpu() -> None:
    found = find_computing(evidence(process(7, runner("step train.py:9")), silent_s=40.0))
    assert found is not None
    assert (found.cause, found.helps) == (StallCause.COMPUTING, Helps.PATIENCE)
    assert "computes in step (train.py:9)" in found.finding.what
    assert "0.9 of 8 cores" in found.finding.have
    assert "silent for 40 s" in found.finding.have
    assert find_computing(evidence(process(7, sleeper()))) is None


def test_threads_of_compiled_code_compute_for_a_main_thread_that_waits() -> None:
    waits = thread("backward train.py:9", call="futex")
    assert find_computing(evidence(process(7, waits, cpu=3.5))) is not None


def test_work_on_a_gpu() -> None:
    calls = ("cudaStreamSynchronize@/lib/libcudart.so", "step train.py:9")
    main = thread(*calls, call="futex")
    gpu = GpuFacts(1, "H100", 0.98, 10, 100, pids=(7,))
    found = find_computing(evidence(process(7, main), gpus=(gpu,)))
    assert found is not None
    assert "GPU 1 is busy 98%" in found.finding.have
    idle = GpuFacts(1, "H100", 0.0, 10, 100, pids=(7,))
    assert find_computing(evidence(process(7, main), gpus=(idle,))) is None


def test_what_is_unknown_is_said_with_what_is_known() -> None:
    strange = thread("vfork@C", frame("fork train.py:9"), state="S", wait_channel="odd_wait")
    found = unknown(evidence(process(7, strange, unread="ptrace_scope is 1")))
    assert found.cause is StallCause.UNKNOWN
    for words in ("fork (train.py:9)", "state S, in odd_wait", "ptrace_scope is 1"):
        assert words in found.finding.have
    assert "headway diagnose --pid 7 --verbose" in texts(found)
    assert find_unknown(evidence(process(7, locked()))) is not None


def test_a_process_that_is_gone_is_said_to_be() -> None:
    assert "no such process" in unknown(evidence()).finding.what
