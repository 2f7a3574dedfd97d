"""Costs of messages and of sums in shared memory, measured between processes of this machine."""

import mmap
import os
import select
import socket
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import torch
from tree.costs import Costs
from tree.processes import Meeting, side_by_side

from headway.base.machine import this_machine
from headway.training.distributed.messages import Apply, Reports, WorkerReport

PINGS = 400
ROUNDS = 7
_MANY = 4096  # reports, and losses of a decision, that are packed at once
_LONG = 1 << 20  # bytes
_FLOAT_BYTES = 4


def calibrate(shapes: Sequence[torch.Size]) -> Costs:
    """Measure all of it, for a model with parameters of these shapes."""
    short, long = _message_s(64), _message_s(_LONG)
    byte_s = max(0.0, (long["core_s"] - short["core_s"]) / (_LONG - 64))
    report = a_report(len(shapes))
    reports = Reports(1, (report,) * _MANY)
    decision = Apply(1, (0.1,) * _MANY)
    memory = _memory_s(shapes)
    return Costs(
        cores=this_machine().cores,
        message_s=short["core_s"],
        byte_s=byte_s,
        latency_s=max(0.0, short["trip_s"] - 2 * short["core_s"]),
        report_bytes=len(msgspec.msgpack.encode(report)),
        report_pack_s=_pack_s(reports) / _MANY,
        report_unpack_s=_unpack_s(reports, Reports) / _MANY,
        loss_pack_s=_pack_s(decision) / _MANY,
        loss_unpack_s=_unpack_s(decision, Apply) / _MANY,
        copy_byte_s=memory["copy"],
        add_byte_s=memory["add"],
        clone_byte_s=memory["clone"],
    )


def a_report(parameters: int) -> WorkerReport:
    """A worker's report as most steps have it."""
    return WorkerReport(
        rank=300,
        step=1_000,
        losses=(0.12345,),
        rows=tuple(range(70_000, 70_008)),
        with_gradient=(True,) * parameters,
        computing_s=1.2345,
        peak_memory=1 << 30,
    )


# -- messages


def _message_s(num_bytes: int) -> dict[str, float]:
    """Seconds of one end's core, and from one end to the other."""
    here, there = socket.socketpair()
    pings = PINGS if num_bytes < _LONG else 40

    def play(rank: int, meeting: Meeting) -> list[tuple[float, float]]:
        own = (here, there)[rank]
        poll = select.poll()
        poll.register(own, select.POLLIN)
        message = bytes(num_bytes)
        rounds: list[tuple[float, float]] = []
        for _ in range(ROUNDS):
            meeting.wait()
            began_s, used_s = time.perf_counter(), time.process_time()
            for _ in range(pings):
                if rank == 0:
                    own.sendall(message)
                _receive(own, poll, num_bytes)
                if rank == 1:
                    own.sendall(message)
            took_s = time.perf_counter() - began_s
            rounds.append((took_s / pings, (time.process_time() - used_s) / pings))
        return rounds

    ends = side_by_side(2, play)
    here.close()
    there.close()
    # One round is two messages, each of which is sent and received: four ends.
    core_s = statistics.median(a[1] + b[1] for a, b in zip(*ends, strict=True)) / 4
    return {"core_s": core_s, "trip_s": statistics.median(a[0] for a in ends[0]) / 2}


def _receive(own: socket.socket, poll: "select.poll", num_bytes: int) -> None:
    left = num_bytes
    while left:
        poll.poll()
        left -= len(own.recv(1 << 16))


def _pack_s(message: msgspec.Struct) -> float:
    return _median_s(lambda: msgspec.msgpack.encode(message))


def _unpack_s(message: msgspec.Struct, kind: type[msgspec.Struct]) -> float:
    decode: Callable[[bytes], Any] = msgspec.msgpack.Decoder(kind).decode
    packed = msgspec.msgpack.encode(message)
    return _median_s(lambda: decode(packed))


def _median_s(act: Callable[[], object]) -> float:
    """Seconds of a core that something takes."""

    def once() -> float:
        used_s = time.process_time()
        act()
        return time.process_time() - used_s

    return statistics.median(once() for _ in range(ROUNDS))


# -- memory


def _memory_s(shapes: Sequence[torch.Size]) -> dict[str, float]:
    """Seconds of a core for each byte, while every core does the same."""
    cores = this_machine().cores
    sizes = [shape.numel() for shape in shapes]
    length = sum(sizes)
    num_bytes = length * _FLOAT_BYTES
    descriptor = os.memfd_create("bench-sums")
    os.ftruncate(descriptor, cores * 2 * num_bytes)

    def act(rank: int, meeting: Meeting) -> list[dict[str, float]]:
        memory = mmap.mmap(descriptor, cores * 2 * num_bytes)
        flat = torch.frombuffer(memory, dtype=torch.float32)[: cores * 2 * length]
        left, right = flat.view(cores, 2, length)[rank]
        own = [torch.ones(size) for size in sizes]
        parts = right.split(sizes)
        acts: dict[str, Callable[[], object]] = {
            "copy": lambda: [part.copy_(one) for part, one in zip(parts, own, strict=True)],
            "add": lambda: left.add_(right),
            "clone": lambda: [part.clone() for part in parts],
        }
        return [dict(_used_s(acts, meeting, num_bytes)) for _ in range(ROUNDS + 1)][1:]

    rounds = [one for ends in side_by_side(cores, act) for one in ends]
    os.close(descriptor)
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


def _used_s(
    acts: dict[str, Callable[[], object]], meeting: Meeting, num_bytes: int
) -> Iterator[tuple[str, float]]:
    for name, act in acts.items():
        meeting.wait()
        used_s = time.process_time()
        act()
        yield name, (time.process_time() - used_s) / num_bytes
