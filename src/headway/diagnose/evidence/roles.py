"""Roles: what a process is in a job, told by its command and its calls."""

from headway.diagnose.evidence.facts import ProcessFacts

LOADER = "loader"
# Words of a command that tell what a process is.
_BY_COMMAND = (
    ("headway.training.worker", "trainer"),
    ("headway.supervise.planner", "planner"),
    ("headway.data.stream.reader_process", "reader"),
    ("multiprocessing.resource_tracker", "resource tracker"),
    ("multiprocessing.resource_sharer", "resource sharer"),
    ("torch/_inductor/compile_worker", "compiler"),
    ("torch._inductor.compile_worker", "compiler"),
    ("triton/", "compiler"),
    ("cc1plus", "compiler"),
    ("wandb-core", "tracker"),
    ("wandb-service", "tracker"),
    ("torch.distributed.run", "launcher"),
    ("torchrun", "launcher"),
    ("accelerate launch", "launcher"),
)
# Functions that a process of a library never leaves.
_BY_CALL = (
    ("torch.utils.data._utils.worker", "_worker_loop", LOADER),
    ("multiprocess.pool", "worker", "pool worker"),
    ("multiprocessing.pool", "worker", "pool worker"),
    ("torch._inductor.compile_worker.subproc_pool", "main", "compiler"),
    ("headway.guard.command.keeper", "_wait", "keeper"),  # of what a guarded command starts
)


def role_of(process: ProcessFacts) -> str:
    """What a process is in its job, as a person would say it; "" if nothing tells."""
    frames = process.main_thread.frames
    calls = {(frame.module, frame.function.rpartition(".")[2]) for frame in frames}
    for module, function, role in _BY_CALL:
        if (module, function) in calls:
            return role
    command = " ".join(process.command)
    return next((role for words, role in _BY_COMMAND if words in command), "")
