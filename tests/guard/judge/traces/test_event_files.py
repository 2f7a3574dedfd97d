"""Scalars of event files are read as their writers wrote them; what is torn ends the file."""

import math
import struct
from pathlib import Path

import pytest

from headway.guard.judge.traces.event_files import Scalar, read_scalars


@pytest.fixture
def written(tmp_path: Path) -> Path:
    from tensorboardX import SummaryWriter

    with SummaryWriter(logdir=str(tmp_path)) as writer:
        for step, loss in ((1, 2.5), (2, math.nan), (300, 0.25)):
            writer.add_scalar("train/loss", loss, step)
        writer.add_histogram("weights", [0.1 * at for at in range(1000)], 300)
        writer.add_text("args", "x" * 100_000, 300)
        writer.add_scalar("train/learning_rate", 1e-4, 300)
    return next(tmp_path.glob("*tfevents*"))


def test_scalars_come_in_order_and_the_rest_is_passed(written: Path) -> None:
    found = read_scalars(written)
    assert [one.tag for one in found] == ["train/loss"] * 3 + ["train/learning_rate"]
    assert [one.step for one in found] == [1, 2, 300, 300]
    assert found[0] == Scalar("train/loss", 1, 2.5)
    assert math.isnan(found[1].value)
    assert found[3].value == pytest.approx(1e-4)


def test_a_torn_end_loses_only_itself(written: Path) -> None:
    whole = written.read_bytes()
    written.write_bytes(whole[:-3])
    assert len(read_scalars(written)) == 3
    for length in range(0, len(whole), 97):
        written.write_bytes(whole[:length])
        assert len(read_scalars(written)) <= 4


def test_a_number_in_a_tensor_is_a_scalar_too(tmp_path: Path) -> None:
    """As TensorBoard 2 and `torch.utils.tensorboard` with new_style write them."""

    def field(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content

    tensor = b"\x08\x01" + field(4, struct.pack("<f", 0.5))
    value = field(1, b"loss") + field(8, tensor)
    event = b"\x10\x07" + field(5, field(1, value))
    path = tmp_path / "events.out.tfevents.1"
    path.write_bytes(struct.pack("<Q", len(event)) + bytes(4) + event + bytes(4))
    assert read_scalars(path) == (Scalar("loss", 7, 0.5),)


@pytest.mark.parametrize("content", [b"\xff" * 4000, bytes(4000), bytes(range(256)) * 20])
def test_what_is_no_event_file_has_no_scalars(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "events.out.tfevents.1"
    path.write_bytes(content)
    assert read_scalars(path) == ()
