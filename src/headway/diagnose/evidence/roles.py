"""Roles: what a process is in a job, inferred from its command and its calls."""

import re
from pathlib import PurePath

from headway.diagnose.evidence.facts import ProcessFacts

LOADER, STARTER = "loader", "process starter"
# Modules that Python runs (`-m`, or as imported by `-c`), with all below them.
_BY_MODULE = (
    ("headway.training.worker", "trainer"),
    ("headway.supervise.planner", "planner"),
    ("headway.data.stream.reader_process", "reader"),
    ("multiprocessing.resource_tracker", "resource tracker"),
    ("multiprocessing.resource_sharer", "resource sharer"),
    ("torch._inductor.compile_worker", "compiler"),
    ("torch.distributed.run", "launcher"),
    ("torch.distributed.launch", "launcher"),
)
# Names of programs and scripts, without their folder.
_BY_PROGRAM = {
    "cc1plus": "compiler",
    "ptxas": "compiler",
    "wandb-core": "tracker",
    "wandb-service": "tracker",
    "torchrun": "launcher",
}
_IMPORT = re.compile(r"from ([\w.]+) import")
_TAKES_VALUE = frozenset({"-W", "-X", "--check-hash-based-pycs"})  # options of Python
# Functions that a process of a library never leaves.
_BY_CALL = (
    ("torch.utils.data._utils.worker", "_worker_loop", LOADER),
    ("multiprocess.pool", "worker", "pool worker"),
    ("multiprocessing.pool", "worker", "pool worker"),
    ("torch._inductor.compile_worker.subproc_pool", "main", "compiler"),
    ("headway.base.host.fork_server", "serve", STARTER),
    ("headway.guard.command.keeper", "_wait", "keeper"),  # of what a guarded command starts
)


def role_of(process: ProcessFacts) -> str:
    """What a process is in its job, as a person would say it; "" if nothing tells."""
    frames = process.main_thread.frames
    calls = {(frame.module, frame.function.rpartition(".")[2]) for frame in frames}
    for module, function, role in _BY_CALL:
        if (module, function) in calls:
            return role
    return _role_of_command(process.command)


def _role_of_command(command: tuple[str, ...]) -> str:
    """What a command runs decides, not the words in its arguments and folders."""
    program, module, rest = _parts(command)
    for name, role in _BY_MODULE:
        if module == name or module.startswith(f"{name}."):
            return role
    name = PurePath(program).name
    if name == "accelerate" or module.startswith("accelerate.commands"):
        return "launcher" if "launch" in (*rest[:1], module.rpartition(".")[2]) else ""
    return _BY_PROGRAM.get(name, "")


def _parts(command: tuple[str, ...]) -> tuple[str, str, tuple[str, ...]]:
    """(program or script, module, its arguments); of `python ...`, what Python runs."""
    if not command:
        return "", "", ()
    program, rest = command[0], command[1:]
    if not PurePath(program).name.startswith(("python", "pypy")):
        return program, "", rest
    while rest:
        option, rest = rest[0], rest[1:]
        if option == "-m":
            return program, rest[0] if rest else "", rest[1:]
        if option == "-c":
            imported = _IMPORT.match(" ".join(rest))
            return program, imported[1] if imported else "", rest[1:]
        if not option.startswith("-"):
            folder, _, script = option.partition("/site-packages/")
            module = script.removesuffix(".py").removesuffix("/__main__").replace("/", ".")
            return option, module if folder else "", rest
        if option in _TAKES_VALUE:
            rest = rest[1:]
    return program, "", ()
