"""Two machines, started by torchrun, train the bits of one; losing one costs no finished step.

Each machine is a set of namespaces of this one (see `machines.py`). Where they cannot be made, the
tests fail.
"""

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from headway.base.errors import Cause, Exit

from .conftest import LIMIT_S, Headway, until
from .machines import Machine, two_machines

TEXT = "".join(f"The {n}th day was like the {n * 7 % 31}th, only longer.\n" for n in range(3000))
PLAN = ["days.txt", "--preset", "tiny", "--max-length", "64", "--batch-size", "256"]
PLAN += ["--threads", "1", "--max-steps", "24", "--save-steps", "8"]
PLAN += ["--no-bf16"]  # else each run finds out by measuring which format is faster
LOST_AT = 10  # steps; the newest regular checkpoint is of step 8
# The kernel answers for a busy machine: one that is silent for some seconds is gone.
IMPATIENT = """
from headway.training.distributed import rendezvous
rendezvous._KEEP_ALIVE = {
    "TCP_KEEPIDLE": 2, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 6_000
}
"""
Machines = tuple[Machine, Machine]
pytestmark = pytest.mark.timeout(2 * LIMIT_S)  # the first one also makes what all compare with


@pytest.fixture
def machines() -> Iterator[Machines]:
    with two_machines() as both:
        yield both


@pytest.fixture
def days(headway: Headway) -> Headway:
    """A saved plan for four workers."""
    headway.write("days.txt", TEXT)
    saved = headway("plan", *PLAN, "--nproc", "4", "--save", "runs/days")
    assert saved.code == 0, saved.err
    return headway


@pytest.fixture(scope="module")
def of_one_process(tmp_path_factory: pytest.TempPathFactory, cache: Any) -> str:
    """The hash of the weights that one process alone ends with."""
    alone = Headway(tmp_path_factory.mktemp("alone"), cache)
    alone.write("days.txt", TEXT)
    assert alone("train", *PLAN).code == 0
    return weights(alone)


def torchrun(days: Headway, machines: Machines, *words: str) -> "list[subprocess.Popen[bytes]]":
    """Start two workers on each machine; both torchruns meet at the first."""
    environment = days.environment | days.mutate("impatient", IMPATIENT)
    started = []
    for machine in machines:
        conf = f"is_host={str(machine is machines[0]).lower()},join_timeout=60,last_call_timeout=2"
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
        command += ["--rdzv-backend", "c10d", "--rdzv-id", "days", "--rdzv-conf", conf]
        command += ["--rdzv-endpoint", f"{machines[0].address}:29500"]
        command += ["--local-addr", machine.address, *words]
        command += ["-m", "headway.training.worker", "runs/days"]
        started.append(machine.start(*command, here=days.here, environment=environment))
    return started


def weights(headway: Headway) -> str:
    file = (headway.here / "runs" / "days" / "model").resolve() / "model.safetensors"
    return hashlib.sha256(file.read_bytes()).hexdigest()


def printed(headway: Headway) -> str:
    return "\n".join(path.read_text() for path in sorted(headway.here.glob("*.log")))


def events(headway: Headway, name: str) -> list[dict[str, Any]]:
    return [event for event in headway.events("days") if event["event"] == name]


def workers_in(machine: Machine) -> list[psutil.Process]:
    """The processes of a machine that compute."""
    found = machine.network.children(recursive=True)
    return [one for one in found if "headway.training.worker" in one.cmdline()]


def lose_at_step(days: Headway, started: "list[subprocess.Popen[bytes]]") -> None:
    """Wait until the step after which a machine is to be lost is done."""
    until(lambda: len(events(days, "step_done")) >= LOST_AT or started[0].poll() is not None)
    assert started[0].poll() is None, printed(days)


def assert_went_on_alone(days: Headway, hash_of_one: str) -> None:
    """The first machine named a worker of the second, saved, and finished with the same bits."""
    (lost, done) = events(days, "ended")
    assert (lost["exit_code"], lost["finding"]["cause"]) == (Exit.MACHINE, Cause.WORKER_LOST)
    assert lost["finding"]["what"] in ("worker 2 is gone", "worker 3 is gone")
    assert done["exit_code"] == Exit.KEPT
    steps = [(event["step"], event["workers"]) for event in events(days, "step_done")]
    assert [step for step, _ in steps] == list(range(1, 25))  # none was lost, none done twice
    assert {workers for _, workers in steps} == {4, 2}
    receipt = days.receipt("days")
    assert (receipt["attempts"], receipt["contract"]["verdict"]) == (2, "kept")
    assert weights(days) == hash_of_one


def test_two_machines_train_the_bits_of_one_process(
    days: Headway, machines: Machines, of_one_process: str
) -> None:
    started = torchrun(days, machines, "--nnodes", "2")
    assert [one.wait(LIMIT_S) for one in started] == [0, 0], printed(days)
    receipt = days.receipt("days")
    assert receipt["contract"]["verdict"] == "kept"
    assert [worker["group"] for worker in receipt["workers"]] == [0, 0, 1, 1]
    assert {event["workers"] for event in events(days, "step_done")} == {4}
    assert weights(days) == of_one_process


def test_a_machine_that_dies_is_named_and_the_other_ends_with_the_same_bits(
    days: Headway, machines: Machines, of_one_process: str
) -> None:
    started = torchrun(days, machines, "--nnodes", "1:2", "--max-restarts", "3")
    lose_at_step(days, started)
    machines[1].kill()
    assert started[0].wait(LIMIT_S) == 0, printed(days)
    assert_went_on_alone(days, of_one_process)


def test_f21_a_network_that_breaks_ends_both_sides_and_one_goes_on(
    days: Headway, machines: Machines, of_one_process: str
) -> None:
    started = torchrun(days, machines, "--nnodes", "1:2", "--max-restarts", "3")
    lose_at_step(days, started)
    machines[1].unplug()
    assert started[0].wait(LIMIT_S) == 0, printed(days)
    assert_went_on_alone(days, of_one_process)
    until(lambda: not workers_in(machines[1]))  # nobody over there waits for ever
    (lost, _) = events(days, "ended")
    assert "stopped answering" in lost["finding"]["have"]
