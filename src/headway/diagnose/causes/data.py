"""Data: loaders that died or froze, a tokenizer on a pathological line, and slow sources."""

from pathlib import PurePosixPath

from headway.base.errors import Remedy
from headway.base.pulse import Phase
from headway.base.units import seconds, size
from headway.diagnose.causes.network import peers_of
from headway.diagnose.causes.roles import (
    Spot,
    is_idle_loader,
    is_loader,
    roles_of,
    spots,
    waits_for_data,
    who,
)
from headway.diagnose.causes.row import CauseRow, diagnosis
from headway.diagnose.causes.stacks import (
    find_frame,
    is_in,
    is_library,
    native_top,
    own_frame,
    python_frames,
    where,
    where_is,
)
from headway.diagnose.causes.threads import stuck_at_lock, wanted
from headway.diagnose.causes.waits import Wait, wait_of
from headway.diagnose.diagnosis import Diagnosis, StallCause
from headway.diagnose.evidence.facts import Evidence, Link, OpenFile, ProcessFacts, ThreadFacts

_ENDED = ("Z", "X")
_ASLEEP = 0.01  # cores; a process that uses less does nothing
_TOKENIZERS = (
    *("tokenizers", "sentencepiece", "tiktoken", "nltk/tokenize", "spacy", "sacremoses"),
    *("transformers/tokenization_utils", "transformers/tokenization_utils_base"),
    *("transformers/tokenization_utils_fast", "transformers/tokenization_utils_tokenizers"),
    *("mistral_common", "youtokentome", "blingfire", "headway/data/examples/tokenizer"),
)
_TOKENIZER_LIBRARIES = ("tokenizers.", "_sentencepiece", "_tiktoken", "tokenizers/")
_DATA_FILES = (".jsonl", ".json", ".txt", ".csv", ".tsv", ".md", ".ndjson", ".text", ".xml")
_LONG_S = 2.0  # of silence, from which one line of text is not merely one of many
_STREAMS = (
    "http/client",
    "urllib3",
    "httpcore",
    "httpx",
    "aiohttp",
    "requests",
    "fsspec",
    "s3fs",
    "botocore",
    "urllib/request",
    "huggingface_hub",
    "datasets",
    "webdataset",
    "boto3",
    "google/cloud/storage",
    "gcsfs",
    "adlfs",
    "headway/data/sources",
    "headway/data/stream",
)
_HEADERS = (
    "begin",
    "_read_status",
    "getresponse",
    "_receive_response_headers",
    "start",
    "_receive_event",
)


def find_loader_dead(evidence: Evidence) -> Diagnosis | None:
    """A trainer waits for data from a process that has ended."""
    for trainer in _waiting_trainers(evidence):
        children = [one for one in evidence.processes if one.parent == trainer.pid]
        dead = [one for one in children if one.main_thread.state in _ENDED]
        if any(_produces(one) for one in children) and not dead:
            continue
        if dead and not _all_others_idle(children):
            continue
        alive = len(children) - len(dead)
        named = ", ".join(str(one.pid) for one in dead)
        return diagnosis(
            StallCause.LOADER_DEAD,
            f"{who(trainer)} waits for data from a process that has ended",
            have=(
                f"process {named} has ended (state Z)"
                if dead
                else "none of its children is running"
            )
            + f", {alive} still run; {_waits_in(trainer)}",
            need="the process that produces the data; it was killed, or it crashed silently",
            remedies=(
                Remedy(
                    "dmesg -T | grep -i 'killed process'", "shows whether memory was the reason"
                ),
                Remedy("df -h /dev/shm", "shared memory that is full kills workers (SIGBUS)"),
                Remedy("num_workers=0", "loads data in the trainer itself, so the error shows"),
            ),
            pid=dead[0].pid if dead else trainer.pid,
        )
    return None


def find_loader_frozen(evidence: Evidence) -> Diagnosis | None:
    """A trainer waits for data from a process that is stopped or stuck."""
    roles = roles_of(evidence)
    for trainer in _waiting_trainers(evidence):
        loaders = roles.loaders_of(trainer)
        for loader in loaders:
            found = _frozen(loader) or (
                "each of its loaders is idle, waiting for a request"
                if _all_asleep(trainer, loaders)
                else ""
            )
            if not found:
                continue
            stopped = loader.main_thread.state == "T"
            return diagnosis(
                StallCause.LOADER_FROZEN,
                f"{who(trainer)} waits for a data loader that is "
                f"{'stopped' if stopped else 'stuck'}",
                have=f"process {loader.pid}: {found}; {_waits_in(trainer)}",
                need="a running loader",
                remedies=_frozen_remedies(loader, stopped=stopped),
                pid=loader.pid,
            )
    return None


def _waiting_trainers(evidence: Evidence) -> list[ProcessFacts]:
    return [one for one in roles_of(evidence).trainers if waits_for_data(one)]


def _waits_in(process: ProcessFacts) -> str:
    return f"{who(process)} waits in {where(own_frame(process.main_thread))}"


def _produces(process: ProcessFacts) -> bool:
    """Whether a process can still be where data comes from."""
    command = " ".join(process.command)
    return process.main_thread.state not in _ENDED and "resource_tracker" not in command


def _all_others_idle(children: list[ProcessFacts]) -> bool:
    alive = [one for one in children if _produces(one)]
    return all(is_idle_loader(one) for one in alive)


def _frozen(loader: ProcessFacts) -> str:
    """Why a loader cannot continue; "" if it can."""
    if loader.main_thread.state in ("T", "t"):
        return "it is stopped (SIGSTOP)" if loader.main_thread.state == "T" else "a debugger has it"
    if is_idle_loader(loader):
        return ""
    if wait_of(loader.main_thread) is Wait.NATIVE and loader.cpu < _ASLEEP:
        called = next(iter(native_top(loader.main_thread)[-1:]), None)
        place = f" {called.function}" if called else " compiled code"
        return (
            f"it waits in{place}, called by {where(own_frame(loader.main_thread))}: threads of "
            "compiled code are not copied when a process is forked"
        )
    stuck = stuck_at_lock(Spot(loader, loader.main_thread, loader))
    if stuck is None:
        return ""
    return (
        f"it waits for {wanted(stuck)} in {where(own_frame(stuck))}: a lock that was taken when "
        "the process was forked is never released in the copy"
    )


def _all_asleep(trainer: ProcessFacts, loaders: tuple[ProcessFacts, ...]) -> bool:
    """Whether trainer and loaders all wait for each other: a batch was lost on the way."""
    torch = find_frame(trainer.main_thread, "torch/utils/data/dataloader")
    return bool(torch and loaders) and all(
        is_loader(one) and is_idle_loader(one) and one.cpu < _ASLEEP for one in loaders
    )


def _frozen_remedies(loader: ProcessFacts, *, stopped: bool) -> tuple[Remedy, ...]:
    if stopped:
        return (Remedy(f"kill -CONT {loader.pid}", "it resumes where it stopped"),)
    return (
        Remedy(f"kill {loader.pid}", "the DataLoader then fails with a message instead of waiting"),
        Remedy("DataLoader(..., multiprocessing_context='spawn')", "workers without copied locks"),
        Remedy("num_workers=0", "loads in the trainer itself"),
        Remedy("DataLoader(..., timeout=60)", "fails with a message when a worker is stuck"),
    )


def find_tokenizer(evidence: Evidence) -> Diagnosis | None:
    """One text keeps a tokenizer busy."""
    for spot in spots(evidence):
        if wait_of(spot.thread) is not Wait.RUNS or not _tokenizes(spot.thread):
            continue
        if evidence.silent_s < _LONG_S:
            return None
        line = _line_of(evidence, spot.process)
        own = own_frame(spot.thread)
        return diagnosis(
            StallCause.TOKENIZER,
            f"{who(spot.process)}: the tokenizer has been busy with one text for "
            f"{seconds(evidence.silent_s)}" + (f": {line}" if line else ""),
            have=f"{where_is(spot.thread)}; {spot.process.cpu:.1f} cores used",
            need="text in shorter pieces: a long line without spaces takes much longer",
            remedies=(
                *_find_line(spot.process),
                Remedy(
                    "awk 'length($0) > 100000 {print FILENAME \":\" FNR, length($0)}' FILE",
                    "lists lines of more than 100,000 characters",
                ),
                Remedy(
                    f"cut the text before {own.file}:{own.line}" if own else "cut the text",
                    "into parts of at most 10,000 characters",
                ),
            ),
            pid=spot.process.pid,
        )
    return None


def _tokenizes(thread: ThreadFacts) -> bool:
    frames = list(python_frames(thread))[:6]
    if any(is_in(frame, *_TOKENIZERS) for frame in frames):
        return True
    libraries = (frame.module for frame in thread.frames if not frame.file)
    return any(part in one for one in libraries for part in _TOKENIZER_LIBRARIES)


def _data_file(process: ProcessFacts) -> OpenFile | None:
    files = [one for one in process.open_files if one.link is Link.FILE]
    return next((one for one in files if one.path.endswith(_DATA_FILES)), None)


def _line_of(evidence: Evidence, process: ProcessFacts) -> str:
    """Where the text comes from: from the run's pulse, or from the data file that is open."""
    file = _data_file(process)
    pulse = next((one for one in evidence.pulses if one.pid == process.pid), None)
    known = pulse is not None and pulse.phase == Phase.TOKENIZING and pulse.unit
    if file and file.line:
        return f"{file.path}:{file.line}"
    if known and pulse:
        named = PurePosixPath(file.path).name if file else "the data"
        return f"{named}, {pulse.unit} {pulse.done + 1:,}"
    return file.path if file else ""


def _find_line(process: ProcessFacts) -> tuple[Remedy, ...]:
    file = _data_file(process)
    if file is None or not file.line:
        return ()
    return (Remedy(f"sed -n '{file.line}p' {file.path} | head -c 200", "shows how it begins"),)


def find_first_bytes(evidence: Evidence) -> Diagnosis | None:
    """A stream was asked for, and nothing has come yet."""
    for spot in spots(evidence):
        if wait_of(spot.thread) is not Wait.SOCKET or not _is_stream(spot.thread):
            continue
        if not find_frame(spot.thread, *_STREAMS, functions=_HEADERS):
            continue
        peer = peers_of(spot)
        return diagnosis(
            StallCause.FIRST_BYTES,
            f"{who(spot.process)} waits for the first bytes of a stream{peer and f' from {peer}'}",
            have=f"the request is sent, no answer has come; asked for in "
            f"{where(own_frame(spot.thread))}" + _for(evidence),
            need="a server that answers",
            remedies=(
                Remedy(f"ss -tnp | grep pid={spot.process.pid}", "shows the connection"),
                Remedy(
                    "curl -sS -o /dev/null -w '%{time_starttransfer} s\\n' ADDRESS",
                    "measures how long its first byte takes",
                ),
            ),
            pid=spot.process.pid,
        )
    return None


def find_slow_source(evidence: Evidence) -> Diagnosis | None:
    """Data comes slowly: over the network, from a pipe, from a loader that waits."""
    for spot in spots(evidence):
        wait = wait_of(spot.thread)
        loads = spot.process is not spot.trainer
        network = (wait is Wait.SOCKET and (_is_stream(spot.thread) or loads)) or (
            wait in (Wait.EVENTS, Wait.NATIVE, Wait.LOCK) and _streams_elsewhere(spot)
        )
        pipe = wait is Wait.READ and not _is_queue(spot.thread) and spot.thread.descriptor > 0
        if not (network or pipe or (loads and wait in (Wait.SLEEP, Wait.DISK, Wait.READ))):
            continue
        peer = peers_of(spot) if network else ""
        source = f" from {peer}" if peer else " from a pipe" if pipe else ""
        waiting = f"; {who(spot.trainer)} waits for it" if loads else ""
        return diagnosis(
            StallCause.SLOW_SOURCE,
            f"{who(spot.process)} waits for data{source}: the source is slow",
            have=f"{_doing(wait)} in {where_is(_asker(spot))}; "
            f"{size(spot.process.read_bytes_per_s)}/s from disks{waiting}" + _for(evidence),
            need="data that arrives as fast as it is trained on",
            remedies=_faster(spot, network=network),
            pid=spot.process.pid,
        )
    return None


def _faster(spot: Spot, *, network: bool) -> tuple[Remedy, ...]:
    look = (
        Remedy(f"ss -tinp | grep -A1 pid={spot.process.pid}", "shows bytes and delays")
        if network
        else Remedy(f"py-spy dump --pid {spot.process.pid}", "shows what it waits in")
    )
    copy = Remedy("copy the data to this machine first", "then it is read at a disk's speed")
    if find_frame(spot.trainer.main_thread, "torch/utils/data") is None:
        return (look, copy)
    more = Remedy("num_workers=4 prefetch_factor=4", "for the DataLoader: more reads at once")
    return (look, copy, more)


def _is_stream(thread: ThreadFacts) -> bool:
    return find_frame(thread, *_STREAMS) is not None


def _streams_elsewhere(spot: Spot) -> bool:
    """Whether a loop of events, or compiled code, receives a stream for code that asked for it."""
    asked = _is_stream(spot.process.main_thread) or _is_stream(spot.thread)
    return asked and any(one.state == "ESTABLISHED" for one in spot.process.open_files)


def _asker(spot: Spot) -> ThreadFacts:
    """The thread whose stack says for whom the data is: a loop of events serves the main one."""
    own = own_frame(spot.thread)
    main = spot.process.main_thread
    return main if (own is None or is_library(own)) and _is_stream(main) else spot.thread


def _is_queue(thread: ThreadFacts) -> bool:
    queues = ("multiprocessing/connection", "multiprocessing/queues", "subprocess")
    return find_frame(thread, *queues) is not None


def _doing(wait: Wait) -> str:
    names = {Wait.SOCKET: "receiving", Wait.READ: "reading", Wait.SLEEP: "sleeping"}
    return names.get(wait, "waiting")


def _for(evidence: Evidence) -> str:
    return f"; silent for {seconds(evidence.silent_s)}" if evidence.silent_s >= 1 else ""


LOADER_DEAD = CauseRow(
    StallCause.LOADER_DEAD,
    find_loader_dead,
    "a process takes data from a child that has ended (state Z) or is gone",
    "`dmesg` (out of memory), `df -h /dev/shm`, `num_workers=0`",
)
LOADER_FROZEN = CauseRow(
    StallCause.LOADER_FROZEN,
    find_loader_frozen,
    "a process takes data from a child that is in state T, or waits forever for a lock",
    "`kill -CONT PID`; `multiprocessing_context='spawn'`, `num_workers=0`, `timeout=60`",
)
TOKENIZER = CauseRow(
    StallCause.TOKENIZER,
    find_tokenizer,
    "a thread is in a tokenizer and uses the CPU, and nothing else has happened for seconds",
    "find the line (`awk 'length($0) > 100000'`) and split it",
)
FIRST_BYTES = CauseRow(
    StallCause.FIRST_BYTES,
    find_first_bytes,
    "a thread waits for the headers of an HTTP response",
    "wait; `curl -w '%{time_starttransfer}'` measures the server",
)
SLOW_SOURCE = CauseRow(
    StallCause.SLOW_SOURCE,
    find_slow_source,
    "a thread receives data from a connection or a pipe, or a loader waits for its source",
    "wait, copy the data first, or read more at once",
)
