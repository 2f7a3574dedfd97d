"""Workers: one that is dead, or has not reached a collective in which the others wait."""

from headway.base.errors import Remedy
from headway.base.units import plural
from headway.diagnose.causes.roles import (
    COLLECTIVES,
    collective_thread,
    computes,
    in_collective,
    roles_of,
    who,
)
from headway.diagnose.causes.row import CauseRow, diagnosis
from headway.diagnose.causes.stacks import find_frame, is_in, name, own_frame, where, where_is
from headway.diagnose.causes.waits import Wait, wait_of
from headway.diagnose.diagnosis import Diagnosis, Helps, StallCause
from headway.diagnose.evidence.facts import Evidence, Frame, ProcessFacts

_ENDED = ("Z", "X")
_JOINING = ("torch/distributed/rendezvous", "torch/distributed/elastic/rendezvous")
_STARTS = ("init_process_group", "new_group", "rendezvous", "_store_based_barrier")
_MOST_NAMED = 4


def find_rank_dead(evidence: Evidence) -> Diagnosis | None:
    """A worker has ended, and the others wait for it."""
    waiting = [one for one in _alive(evidence) if in_collective(one)]
    dead = [one for one in roles_of(evidence).trainers if one.main_thread.state in _ENDED]
    if not evidence.missing and not (dead and waiting):
        return None
    ranks = ", ".join(map(str, evidence.missing))
    gone = f"worker {ranks}" if evidence.missing else ", ".join(map(who, dead))
    one = len(evidence.missing or dead) == 1
    return diagnosis(
        StallCause.RANK_DEAD,
        f"{gone} {'is' if one else 'are'} gone",
        have=(_where_they_wait(waiting) if waiting else "the others keep running without it")
        if _alive(evidence)
        else "no worker is left",
        need="all workers: a collective ends only when each of them has reached it",
        remedies=(
            Remedy("dmesg -T | grep -i 'killed process'", "shows whether memory was the reason"),
            Remedy("start the job again", "it resumes from the newest checkpoint"),
        ),
        pid=dead[0].pid if dead else 0,
    )


def find_collective(evidence: Evidence) -> Diagnosis | None:
    """Workers wait in a collective that another one has not reached."""
    workers = _alive(evidence)
    waiting = [one for one in workers if in_collective(one)]
    late = [one for one in workers if one not in waiting]
    if not waiting:
        return None
    # Without silence, a worker that computes may be about to come.
    moving = late if late else waiting
    if evidence.silent_s <= 0 and any(computes(one) for one in moving):
        return None
    if late:
        return _late(waiting, late)
    return _all_inside(waiting)


def _late(waiting: list[ProcessFacts], late: list[ProcessFacts]) -> Diagnosis:
    named = _named(late)
    verb = "has" if len(late) == 1 else "have"
    helps = Helps.PATIENCE if all(map(computes, late)) else None
    return diagnosis(
        StallCause.COLLECTIVE,
        f"{_named(waiting)} wait{'s' if len(waiting) == 1 else ''} in {_call(waiting[0])}, which "
        f"{named} {verb} not reached",
        have="; ".join(
            f"{who(one)} is in {where_is(one.main_thread)}" for one in late[:_MOST_NAMED]
        )
        + f"; {_where_they_wait(waiting)}",
        need="the same collectives, in the same order, from every worker",
        remedies=(
            Remedy(f"py-spy dump --pid {late[0].pid}", f"shows what {who(late[0])} does"),
            Remedy(
                "call it on every rank, not only under `if rank == 0`",
                "if that is why; also give each rank the same number of batches",
            ),
            Remedy(
                "TORCH_DISTRIBUTED_DEBUG=DETAIL",
                "before the command: torch then names a collective that does not match",
            ),
        ),
        pid=late[0].pid,
        helps=helps,
    )


def _all_inside(waiting: list[ProcessFacts]) -> Diagnosis:
    calls = dict.fromkeys(_call(one) for one in waiting)
    places = dict.fromkeys(where(_caller(one)) for one in waiting)
    if len(waiting) > 1 and (len(calls) > 1 or len(places) > 1):
        what = f"workers wait for each other in different collectives: {' and '.join(calls)}"
        need = "the same collectives, in the same order, from every worker"
    elif any(_joins(one) for one in waiting):
        what = f"{_named(waiting)} wait{'s' if len(waiting) == 1 else ''} for the others to join"
        need = "as many processes as the world size says, at the same MASTER_ADDR and MASTER_PORT"
    else:
        what = f"{_named(waiting)} wait{'s' if len(waiting) == 1 else ''} in {next(iter(calls))}"
        need = "every other worker in the same collective, and a network between them"
    return diagnosis(
        StallCause.COLLECTIVE,
        what,
        have=_where_they_wait(waiting),
        need=need,
        remedies=(
            Remedy(
                "headway diagnose",
                "on each of the other machines, if there are any: shows where their workers are",
            ),
            Remedy("env | grep -E 'MASTER|WORLD_SIZE|RANK'", "shows whom it waits for"),
            Remedy(
                "TORCH_DISTRIBUTED_DEBUG=DETAIL",
                "before the command: torch then names a collective that does not match",
            ),
        ),
        pid=waiting[0].pid,
    )


def _alive(evidence: Evidence) -> list[ProcessFacts]:
    trainers = roles_of(evidence).trainers
    return [one for one in trainers if wait_of(one.main_thread) is not Wait.ENDED]


def _joins(process: ProcessFacts) -> bool:
    thread = process.main_thread
    starts = find_frame(thread, *COLLECTIVES, functions=_STARTS)
    return starts is not None or find_frame(thread, *_JOINING) is not None


def _call(process: ProcessFacts) -> str:
    """The collective, as its caller named it: the outermost function of torch.distributed."""
    thread = collective_thread(process)
    frames = thread.frames if thread else ()
    names = [name(frame) for frame in frames if is_in(frame, *COLLECTIVES)]
    outermost = next((one for one in reversed(names) if one != "wrapper"), "")
    return outermost or "a collective"


def _caller(process: ProcessFacts) -> Frame | None:
    thread = collective_thread(process)
    return own_frame(thread) if thread else None


def _where_they_wait(waiting: list[ProcessFacts]) -> str:
    shown = [
        f"{who(one)} waits in {_call(one)}, called from {where(_caller(one))}"
        for one in waiting[:_MOST_NAMED]
    ]
    more = len(waiting) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more else "")


def _named(processes: list[ProcessFacts]) -> str:
    if len(processes) > _MOST_NAMED:
        return plural(len(processes), "worker")
    return ", ".join(map(who, processes))


RANK_DEAD = CauseRow(
    StallCause.RANK_DEAD,
    find_rank_dead,
    "a worker has ended while others wait in a collective",
    "`dmesg` (out of memory); start the job again",
)
COLLECTIVE = CauseRow(
    StallCause.COLLECTIVE,
    find_collective,
    "some workers are in torch.distributed (gloo, NCCL), others are elsewhere or in another call",
    "call it on every rank; give each the same number of batches; `TORCH_DISTRIBUTED_DEBUG=DETAIL`",
)
