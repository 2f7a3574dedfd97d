"""Roles: loaders, compilers, trackers and launchers are known by what they run."""

import pytest

from headway.diagnose.evidence.facts import Frame, ProcessFacts, ThreadFacts
from headway.diagnose.evidence.roles import role_of

LOOP = Frame("_worker_loop", "/x/worker.py", 1, "torch.utils.data._utils.worker")


@pytest.mark.parametrize(
    ("command", "role"),
    [
        ("python train.py", ""),
        ("python /venv/bin/torchrun --nproc-per-node 2 train.py", "launcher"),
        ("python -m torch.distributed.run train.py", "launcher"),
        ("python -c from multiprocessing.resource_tracker import main;main(5)", "resource tracker"),
        ("/venv/bin/wandb-core --port-filename x", "tracker"),
        ("python -m headway.data.stream.reader_process", "reader"),
        ("/usr/lib/gcc/x86_64-linux-gnu/12/cc1plus -quiet", "compiler"),
        (
            "/venv/bin/python3.11 /venv/lib/python3.11/site-packages/torch/_inductor/"
            "compile_worker/__main__.py --workers=2",
            "compiler",
        ),
        ("/v/lib/python3.11/site-packages/triton/backends/nvidia/bin/ptxas -v", "compiler"),
        ("python -X faulthandler -W ignore -m torch.distributed.run train.py", "launcher"),
        ("python /venv/bin/accelerate launch train.py", "launcher"),
        ("python -m accelerate.commands.launch train.py", "launcher"),
        ("python /venv/bin/accelerate config", ""),
        ("python /data/torchrun/train.py", ""),
        ("python train.py --output_dir wandb-core", ""),
        ("python train.py -m torch.distributed.run", ""),
        ("bash -c torchrun train.py", ""),
        ("/data/torch.distributed.run/cc1plus/tool", ""),
        ("python", ""),
        ("python -m", ""),
    ],
)
def test_by_the_command(command: str, role: str) -> None:
    assert role_of(ProcessFacts(1, command=tuple(command.split(" ")))) == role


def test_a_loader_has_the_command_of_its_trainer_and_its_own_calls() -> None:
    thread = ThreadFacts(1, frames=(Frame("get", "/x/queues.py"), LOOP, Frame("<module>", "t.py")))
    assert role_of(ProcessFacts(1, command=("python", "train.py"), threads=(thread,))) == "loader"


def test_what_keeps_the_processes_of_a_guarded_command_has_the_command_of_the_guard() -> None:
    frame = Frame("_Keeper._wait", "/x/keeper.py", 1, module="headway.guard.command.keeper")
    process = ProcessFacts(
        1, command=("headway", "guard"), threads=(ThreadFacts(1, frames=(frame,)),)
    )
    assert role_of(process) == "keeper"


def test_what_forks_trainers_has_their_command_and_is_none() -> None:
    command = ("python", "-P", "-m", "headway.training.worker", "--serve", "7")
    frame = Frame("serve", "/x/fork_server.py", 1, module="headway.base.host.fork_server")
    server = ProcessFacts(1, command=command, threads=(ThreadFacts(1, frames=(frame,)),))
    assert role_of(server) == "process starter"
    assert role_of(ProcessFacts(1, command=command)) == "trainer"  # one that it has forked
