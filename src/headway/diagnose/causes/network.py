"""Network: names that are not found, servers that do not answer, and uploads to trackers."""

from headway.base.errors import Remedy
from headway.diagnose.causes.roles import Spot, roles_of, spots, who
from headway.diagnose.causes.row import CauseRow, diagnosis
from headway.diagnose.causes.stacks import (
    find_frame,
    is_in,
    is_library,
    own_frame,
    python_frames,
    where,
)
from headway.diagnose.causes.waits import Wait, wait_of
from headway.diagnose.diagnosis import Diagnosis, StallCause
from headway.diagnose.evidence.facts import Evidence, Frame, Link, ThreadFacts

# Packages of trackers, and what makes each of them keep its records on this machine.
_TRACKERS = {
    "wandb": "WANDB_MODE=offline",
    "mlflow": "MLFLOW_TRACKING_URI=file:./mlruns",
    "comet_ml": "COMET_START_MODE=offline",
    "neptune": "NEPTUNE_MODE=offline",
    "clearml": "CLEARML_OFFLINE_MODE=1",
    "trackio": "TRACKIO_SPACE_ID=",
    "swanlab": "SWANLAB_MODE=local",
    "dvclive": "DVC_STUDIO_OFFLINE=1",
    "aim": "--report_to none",
    "tensorboardX": "--report_to none",
    "tensorboard": "--report_to none",
    "torch/utils/tensorboard": "--report_to none",
}
_WAITS = (
    Wait.LOCK,
    Wait.SOCKET,
    Wait.CONNECT,
    Wait.SLEEP,
    Wait.EVENTS,
    Wait.READ,
    Wait.CHILD,
    Wait.NATIVE,
    Wait.UNKNOWN,
)
_RESOLVING = ("getaddrinfo", "gethostbyname", "gethostbyaddr", "getnameinfo", "getfqdn")


def find_tracker(evidence: Evidence) -> Diagnosis | None:
    """A call of an experiment tracker waits."""
    for process in roles_of(evidence).trainers:
        main = process.main_thread
        found = _tracker(main)
        if found is None or wait_of(main) not in _WAITS:
            continue
        name, frame, offline = found
        peer = peers_of(Spot(process, main, process))
        return diagnosis(
            StallCause.TRACKER,
            f"{who(process)} waits for its experiment tracker, {name}",
            have=f"in {where(frame)}, called from {where(_caller(main))}"
            + (f"; connected to {peer}" if peer else ""),
            need="a tracker that does not hold up the training",
            remedies=(
                Remedy(
                    offline, "before the command, or in its settings: records stay on this machine"
                ),
                Remedy(f"py-spy dump --pid {process.pid}", "shows whether it still waits there"),
            ),
            pid=process.pid,
        )
    return None


def _tracker(thread: ThreadFacts) -> tuple[str, Frame, str] | None:
    for package, offline in _TRACKERS.items():
        if frame := find_frame(thread, package):
            return package.rpartition("/")[2], frame, offline
    return None


def _caller(thread: ThreadFacts) -> Frame | None:
    """The innermost function outside of trackers and libraries."""
    frames = [frame for frame in python_frames(thread) if not is_in(frame, *_TRACKERS)]
    return next((frame for frame in frames if not is_library(frame)), next(iter(frames), None))


def find_network(evidence: Evidence) -> Diagnosis | None:
    """A name is being looked up, a connection is being opened, or a server says nothing."""
    for spot in spots(evidence):
        if _resolves(spot.thread):
            return _no_name(spot)
        wait = wait_of(spot.thread)
        polls = wait in (Wait.SOCKET, Wait.EVENTS)
        if wait is Wait.CONNECT or (polls and _opening(spot)):
            return _no_connection(spot)
    return None


def find_no_answer(evidence: Evidence) -> Diagnosis | None:
    """A server was asked outside of any stream that is known, and says nothing."""
    spot = next((one for one in spots(evidence) if wait_of(one.thread) is Wait.SOCKET), None)
    if spot is None:
        return None
    peer = peers_of(spot)
    return diagnosis(
        StallCause.NETWORK,
        f"{who(spot.process)} waits for an answer from {peer or 'another process'}",
        have=f"connected, {_received(spot)} bytes have come that are not read yet; asked in "
        f"{where(own_frame(spot.thread))}",
        need="a server that answers, or a time limit on the call",
        remedies=(
            Remedy(f"ss -tnp | grep pid={spot.process.pid}", "shows the connection"),
            Remedy(
                "socket.setdefaulttimeout(60)",
                "at the start of the program: it then fails with a message",
            ),
        ),
        pid=spot.process.pid,
    )


def _resolves(thread: ThreadFacts) -> bool:
    called = (frame for frame in thread.frames if not frame.file)
    if any(frame.function.strip("_") in _RESOLVING for frame in called):
        return True
    return find_frame(thread, "socket", functions=_RESOLVING) is not None


def _opening(spot: Spot) -> bool:
    """Whether what it polls is a connection that is asked for."""
    files = spot.process.open_files
    known = (-1, *(one.descriptor for one in files if one.state == "SYN_SENT"))
    return len(known) > 1 and spot.thread.descriptor in known


def _no_name(spot: Spot) -> Diagnosis:
    return diagnosis(
        StallCause.NETWORK,
        f"{who(spot.process)} waits for the name of a server to be looked up (DNS)",
        have=f"getaddrinfo has not returned; called from {where(own_frame(spot.thread))}",
        need="a name server that answers",
        remedies=(
            Remedy("cat /etc/resolv.conf", "shows which name servers are asked"),
            Remedy("getent hosts huggingface.co", "looks up a name, as the program does"),
            Remedy("HF_HUB_OFFLINE=1", "before the command, if all it needs is on this machine"),
        ),
        pid=spot.process.pid,
    )


def _no_connection(spot: Spot) -> Diagnosis:
    peer = peers_of(spot)
    return diagnosis(
        StallCause.NETWORK,
        f"{who(spot.process)} waits for a connection{peer and f' to {peer}'}",
        have=f"asked for (SYN_SENT), not accepted; called from {where(own_frame(spot.thread))}",
        need="a server or a proxy that accepts connections",
        remedies=(
            Remedy(
                f"nc -vz -w 5 {peer.replace(':', ' ')}" if peer else "ss -tnp state syn-sent",
                "shows whether it can be reached",
            ),
            Remedy(
                "env | grep -i proxy", "shows which proxy is set; unset https_proxy if it is wrong"
            ),
            Remedy("HF_HUB_OFFLINE=1", "before the command, if all it needs is on this machine"),
        ),
        pid=spot.process.pid,
    )


def peers_of(spot: Spot) -> str:
    """Whom a thread is connected to: by its descriptor, else all that the process talks to."""
    sockets = [one for one in spot.process.open_files if one.link is Link.SOCKET and one.peer]
    here = [one for one in sockets if one.descriptor == spot.thread.descriptor >= 0]
    opening = [one for one in sockets if one.state == "SYN_SENT"]
    if wait_of(spot.thread) is Wait.CONNECT and opening and not here:
        here = opening
    named = dict.fromkeys(one.peer for one in (here or sockets))
    return " or ".join(list(named)[:2])


def _received(spot: Spot) -> int:
    files = spot.process.open_files
    return sum(one.received for one in files if one.descriptor == spot.thread.descriptor)


TRACKER = CauseRow(
    StallCause.TRACKER,
    find_tracker,
    "the main thread waits inside a tracker's package (wandb, mlflow, comet_ml, ...)",
    "`WANDB_MODE=offline`, `MLFLOW_TRACKING_URI=file:./mlruns`, `--report_to none`",
)
NETWORK = CauseRow(
    StallCause.NETWORK,
    find_network,
    "a thread is in `getaddrinfo`, or a connection attempt is not answered",
    "`getent hosts`, `nc -vz`, the proxies in `env`, `HF_HUB_OFFLINE=1`",
)
NO_ANSWER = CauseRow(
    StallCause.NETWORK,
    find_no_answer,
    "a thread waits for a response that is not a stream of data",
    "`ss -tnp`; a time limit for the call",
)
