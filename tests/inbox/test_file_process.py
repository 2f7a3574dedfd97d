"""The process of a file: what it may write to."""

from pathlib import Path

import pytest

from headway.inbox import file_process
from headway.inbox.file_process import writable_environment
from headway.inbox.folder import InboxFolder


def test_a_user_with_a_home_keeps_its_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "not" / "there"))
    found = writable_environment(InboxFolder(tmp_path / "inbox"))
    assert found["XDG_CACHE_HOME"] == str(tmp_path / "not" / "there")


@pytest.mark.parametrize("why", ["no home", "a home that cannot be written"])
def test_without_one_the_cache_is_in_the_inbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    inbox = InboxFolder(tmp_path / "inbox")
    inbox.make()
    monkeypatch.delenv("XDG_CACHE_HOME")
    if why == "no home":
        monkeypatch.setattr(file_process, "_cache", lambda: None)
    else:
        monkeypatch.setattr(file_process.os, "access", lambda *_: False)
    found = writable_environment(inbox)
    assert found["XDG_CACHE_HOME"] == str(inbox.state / "cache")


def test_temporary_files_find_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inbox = InboxFolder(tmp_path / "inbox")
    inbox.make()

    def none() -> str:
        raise FileNotFoundError

    monkeypatch.setattr(file_process.tempfile, "gettempdir", none)
    assert writable_environment(inbox)["TMPDIR"] == str(inbox.state / "tmp")
    assert (inbox.state / "tmp").is_dir()
