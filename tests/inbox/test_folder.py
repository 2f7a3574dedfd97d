"""The places of an inbox, free names, and changes that do not overwrite anything."""

from pathlib import Path

import pytest

from headway.base.errors import Cause, MachineError, UsageError
from headway.inbox.folder import Disk, InboxFolder, free_name


def test_the_folders_are_made_once(tmp_path: Path) -> None:
    inbox = InboxFolder(tmp_path / "inbox")
    assert not inbox.is_inbox
    inbox.make()
    inbox.make()
    assert inbox.is_inbox
    assert sorted(path.name for path in inbox.path.iterdir()) == [
        ".headway", "done", "failed", "processing"
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["processing", "done", "failed", ".headway", ".headway/runs"])
@pytest.mark.parametrize("kind", ["link", "file"])
def test_f59_a_place_that_leads_out_is_refused(tmp_path: Path, name: str, kind: str) -> None:
    inbox = InboxFolder(tmp_path / "inbox")
    path = inbox.path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "outside").mkdir()
    if kind == "link":
        path.symlink_to(tmp_path / "outside")
    else:
        path.write_text("")
    with pytest.raises(UsageError, match=f"is a {kind}") as refused:
        inbox.make()
    assert refused.value.cause is Cause.NOT_WRITABLE
    assert list((tmp_path / "outside").iterdir()) == []


def test_what_a_kill_left_half_written_goes_from_every_place(tmp_path: Path) -> None:
    inbox = InboxFolder(tmp_path / "inbox")
    inbox.make()
    (inbox.runs / "0001-a").mkdir()
    places = [
        "",
        "processing",
        "done",
        "failed",
        ".headway",
        ".headway/jobs",
        ".headway/runs/0001-a",
    ]
    for place in places:
        (inbox.path / place / ".x.json.4194305-1.tmp").touch()  # a number that no process has
    inbox.delete_leftovers()
    assert list(inbox.path.rglob(".*.tmp")) == []


def test_a_move_overwrites_nothing(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("1")
    two.symlink_to(tmp_path / "missing")
    with pytest.raises(MachineError):
        Disk().move(one, two)
    assert one.read_text() == "1"
    with pytest.raises(FileNotFoundError):
        Disk().move(tmp_path / "none", tmp_path / "three")


def test_a_link_is_relative_and_replaced(tmp_path: Path) -> None:
    for number in (1, 2):
        target = tmp_path / ".headway" / "runs" / str(number)
        target.mkdir(parents=True)
        Disk().link(tmp_path / "current_model", target)
        link = tmp_path / "current_model"
        assert link.readlink() == Path(".headway/runs") / str(number)
        assert link.is_dir()
    Disk().remove(tmp_path / "current_model")
    Disk().remove(tmp_path / "current_model")
    assert not (tmp_path / "current_model").is_symlink()


@pytest.mark.parametrize(
    ("there", "name", "free"),
    [
        ([], "a.jsonl", "a.jsonl"),
        (["a.jsonl"], "a.jsonl", "a-0007.jsonl"),
        (["a.jsonl.receipt.json"], "a.jsonl", "a-0007.jsonl"),
        (["a.jsonl.error.txt"], "a.jsonl", "a-0007.jsonl"),
        (["a.jsonl.gz"], "a.jsonl.gz", "a-0007.jsonl.gz"),
        (["a", "a-0007"], "a", "a-0007-0007"),
        ([], "a" * 250 + ".txt", "a" * 176 + ".txt"),
        ([], "ä" * 120, "ä" * 90),
    ],
)
def test_a_free_name_keeps_its_suffix(
    tmp_path: Path, there: list[str], name: str, free: str
) -> None:
    for one in there:
        (tmp_path / one).write_text("")
    found = free_name(tmp_path, name, 7)
    assert found == free
    Disk().write(tmp_path / f"{found}.receipt.json", "{}")
