"""Costs of a step's parts between processes: measured on this machine, or assumed of a network."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Costs:
    """What was measured on this machine; seconds are of one core.

    Attributes:
        cores: that were all busy while memory was measured.
        message_s: sending or receiving a message of a few bytes.
        byte_s: each byte of a long message, at either end.
        latency_s: from the end of sending to the receiver's start.
        report_bytes: of a worker's report.
        report_pack_s: packing one report.
        report_unpack_s: unpacking one.
        loss_pack_s: packing one number of a decision.
        loss_unpack_s: unpacking one.
        copy_byte_s: each byte that is copied into memory which all share.
        add_byte_s: each byte of a sum that is added to another there.
        clone_byte_s: each byte that is copied out of it.
        worker_s: what a worker has to do in a step beside all this.
        root_report_s: what the root has to do with each report, once it is unpacked.
    """

    cores: int
    message_s: float
    byte_s: float
    latency_s: float
    report_bytes: int
    report_pack_s: float
    report_unpack_s: float
    loss_pack_s: float
    loss_unpack_s: float
    copy_byte_s: float
    add_byte_s: float
    clone_byte_s: float
    worker_s: float = 0.0
    root_report_s: float = 0.0

    def send_reports_s(self, num: int) -> float:
        """Seconds for a message with this many reports, at the sender's end."""
        return self.message_s + num * (self.report_pack_s + self.report_bytes * self.byte_s)

    def receive_reports_s(self, num: int) -> float:
        """The same at the receiver's end."""
        return self.message_s + num * (self.report_unpack_s + self.report_bytes * self.byte_s)

    def send_decision_s(self, losses: int, *, first: bool) -> float:
        """Seconds for a decision that holds this many losses; it is packed for the first child."""
        return self.message_s + losses * (_LOSS_BYTES * self.byte_s + first * self.loss_pack_s)

    def receive_decision_s(self, losses: int) -> float:
        """The same at the receiver's end."""
        return self.message_s + losses * (_LOSS_BYTES * self.byte_s + self.loss_unpack_s)


_LOSS_BYTES = 9  # of a number, packed


@dataclass(frozen=True)
class Link:
    """What connects a worker to others.

    Attributes:
        bytes_per_s: in each direction, of one worker while all use it.
        latency_s: of a message.
    """

    bytes_per_s: float
    latency_s: float


def ring_s(num: int, num_bytes: float, link: Link) -> float:
    """Seconds to add up `num_bytes` over a ring of workers and to hand all the sum."""
    return 2 * _half_ring_s(num, num_bytes, link)


def _half_ring_s(num: int, num_bytes: float, link: Link) -> float:
    """Seconds until each of a ring has its slice of the sum; as long, until all have all slices."""
    return (num - 1) / num * num_bytes / link.bytes_per_s + (num - 1) * link.latency_s


def levels_s(sizes: tuple[int, ...], num_bytes: float, links: tuple[Link, ...]) -> float:
    """Seconds to add up level by level: slices inside, each slice across, slices back inside.

    Args:
        sizes: members of a group of each level, from the inside out.
        num_bytes: of each worker.
        links: of each level.
    """
    total = 0.0
    for size, link in zip(sizes[:-1], links[:-1], strict=True):
        total += 2 * _half_ring_s(size, num_bytes, link)
        num_bytes /= size
    return total + ring_s(sizes[-1], num_bytes, links[-1])


def pairwise_s(num: int, num_bytes: float, link: Link) -> float:
    """Seconds to add up whole buffers, two and two, and to hand the sum back the same way."""
    return 2 * (num - 1).bit_length() * (num_bytes / link.bytes_per_s + link.latency_s)


def shared_memory_s(costs: Costs, workers: int, sums: int, num_bytes: float) -> float:
    """Seconds of a core to add up in memory that all share, of all workers together.

    Args:
        costs: of this machine.
        workers: on it.
        sums: that they write together.
        num_bytes: of the gradients of one.
    """
    written = sums * num_bytes * costs.copy_byte_s
    added = num_bytes * ((sums - 1) * costs.add_byte_s + costs.copy_byte_s)
    return written + added + workers * num_bytes * costs.clone_byte_s
