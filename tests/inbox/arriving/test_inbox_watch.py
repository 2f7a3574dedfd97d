"""Looks at a real folder, one after the other, by a clock that is an argument."""

from pathlib import Path

import pytest

from headway.inbox.arriving import inbox_watch
from headway.inbox.arriving.inbox_watch import InboxWatch


def test_a_file_is_ready_after_it_was_quiet(tmp_path: Path) -> None:
    watch = InboxWatch(tmp_path)
    (tmp_path / "a.txt").write_text("a\n")
    assert watch.look(0.0).ready == ()
    assert watch.num_waiting == 1
    assert watch.next_file == ""
    (tmp_path / "a.txt").write_text("a\nb\n")
    assert watch.look(1.0).ready == ()
    (ready,) = watch.look(2.0).ready
    assert (ready.name, ready.bytes) == ("a.txt", 4)
    assert watch.next_file == str(tmp_path / "a.txt")
    watch.forget(ready)
    assert (watch.num_waiting, watch.next_file) == (0, "")
    assert watch.look(3.0).ready == ()  # seen anew


def test_a_folder_is_no_file_to_read_ahead(tmp_path: Path) -> None:
    watch = InboxWatch(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a/one.txt").write_text("a\n")
    watch.look(0.0)
    assert [one.name for one in watch.look(5.0).ready] == ["a"]
    assert watch.next_file == ""


def test_the_priority_is_used(tmp_path: Path) -> None:
    watch = InboxWatch(tmp_path, ("b*",))
    for name in ("a", "b"):
        (tmp_path / name).write_text("x\n")
    watch.look(0.0)
    assert [one.name for one in watch.look(5.0).ready] == ["b", "a"]


def test_a_glance_opens_nothing_and_is_rare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Path] = []
    monkeypatch.setattr(inbox_watch, "list_inbox", lambda path: looks.append(path) or [])
    monkeypatch.setattr(inbox_watch, "probe", lambda *_: pytest.fail("nothing is opened"))
    watch = InboxWatch(tmp_path)
    for now_s in (0.0, 0.1, 0.9, 1.0, 1.5, 2.0):
        watch.glance(now_s)
    assert len(looks) == 3
