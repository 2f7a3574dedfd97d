"""headway.json: this version, and version 1 as Headway 0.1 wrote it."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from tests.training.jobs import STATE

from headway.base.errors import Cause, UsageError
from headway.data.stream.cursor import StreamCursor, StreamPosition
from headway.runs.checkpoint_state import FILE, RowsDue, read_state

# As Headway 0.1 wrote it for a streamed text, cut to one rejected record.
VERSION_1 = b"""{
  "schema": "headway.checkpoint/1",
  "global_step": 7,
  "job_step": 3,
  "epoch": 1.5,
  "step_in_epoch": 1,
  "optimizer_steps": 7,
  "row_sum": 18446744073709551615,
  "applications": 24,
  "input_tokens": 1000,
  "trained_tokens": 900,
  "computed_tokens": 1000,
  "step_seconds": 1.25,
  "probe_before": {"mean": 2.5, "error": 0.1, "rows": 8},
  "held_out_before": null,
  "loss_first": 2.5,
  "loss_last": null,
  "grad_norm_first": 1,
  "grad_norm_last": null,
  "no_gradient_yet": ["lora_A"],
  "plan": "9f",
  "data": "ab",
  "tokenizer": "cd",
  "parent": "",
  "versions": {"headway": "0.1.0"},
  "held_out": {"mean": 2.25, "error": 0.5, "rows": 4},
  "stand": {
    "window": 3,
    "cursor": {"epoch": 1, "place": 2, "taken": 3, "offset": 4},
    "read": 50, "rejected": {"not JSON": 1}, "truncated": 5
  },
  "read_to": {
    "window": 4,
    "cursor": {"epoch": 1, "place": 3, "taken": 0, "offset": 0},
    "read": 60, "rejected": {"not JSON": 2}, "truncated": 6
  }
}"""


def written(folder: Path, data: bytes) -> Path:
    (folder / FILE).write_bytes(data)
    return folder


def test_a_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    cursor = StreamCursor(3, StreamPosition(1, 2, 3, 4), 6, 48, 7, 8, 40, 50, {"not JSON": 1}, 5)
    for state in (STATE, replace(STATE, cursor=cursor, due=RowsDue(9, 2**64 - 1, 8))):
        assert read_state(written(tmp_path, msgspec.json.encode(state))) == state


def test_version_1_of_a_stream_has_no_cursor_that_this_version_can_use(tmp_path: Path) -> None:
    """Its windows spanned epochs."""
    state = read_state(written(tmp_path, VERSION_1))
    assert state.schema == "headway.checkpoint/2"
    assert (state.cursor, state.read_cursor, state.due) == (None, None, None)
    assert (state.row_sum, state.no_gradient_yet) == (2**64 - 1, ("lora_A",))
    assert state.held_out is not None
    assert state.held_out.mean == 2.25


@pytest.mark.parametrize("lacking", ["cursors", "cursors and held_out"])
def test_version_1_without_a_stream_has_no_cursors(tmp_path: Path, lacking: str) -> None:
    plain = msgspec.json.decode(VERSION_1)
    for name in ("stand", "read_to", *(["held_out"] if "held_out" in lacking else [])):
        del plain[name]
    state = read_state(written(tmp_path, msgspec.json.encode(plain)))
    assert (state.cursor, state.read_cursor) == (None, None)
    assert (state.held_out is None) == ("held_out" in lacking)


def test_every_field_of_version_1_is_still_there(tmp_path: Path) -> None:
    """What an upgrade forgets would be lost without a word. A stream's cursors are dropped."""
    old = msgspec.json.decode(VERSION_1)
    new = msgspec.to_builtins(read_state(written(tmp_path, VERSION_1)))
    dropped = {"stand", "read_to"}
    assert old.keys() - dropped == new.keys() - {"deviations"}
    kept = old.keys() - dropped - {"schema"}
    assert {name: msgspec.to_builtins(new[name]) for name in kept} == {
        name: tuple(old[name]) if name == "no_gradient_yet" else old[name] for name in kept
    }


def test_a_state_that_is_damaged_or_newer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_state(tmp_path)
    for data in (b"{", b"{}", b'{"schema": "headway.checkpoint/1"}', b'{"schema": "x/1"}'):
        with pytest.raises(msgspec.MsgspecError):
            read_state(written(tmp_path, data))
    with pytest.raises(UsageError) as refused:
        read_state(written(tmp_path, b'{"schema": "headway.checkpoint/3"}'))
    assert refused.value.cause is Cause.NEWER_VERSION
