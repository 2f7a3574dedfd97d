"""Kernel files: read where they can be, empty where they cannot."""

from pathlib import Path

import pytest

from headway.diagnose.evidence.kernel.proc_files import fields_of, stat_fields, text_of, whole


def test_a_file_that_cannot_be_read_is_empty(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    assert (text_of(gone), fields_of(gone), stat_fields(gone)) == ("", {}, [])


def test_fields_have_names(tmp_path: Path) -> None:
    (tmp_path / "status").write_bytes(b"Name:\ta\xff:b\nVmRSS:\t  12 kB\nno field\n")
    assert fields_of(tmp_path / "status") == {"Name": "a�:b", "VmRSS": "12 kB"}


def test_a_name_may_hold_parentheses_and_spaces(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text("7 (a) S (b c)) R 1 2\n")
    assert stat_fields(tmp_path / "stat") == ["R", "1", "2"]


@pytest.mark.parametrize(("text", "number"), [("12 kB", 12), ("", 0), ("  ", 0), ("max", 0)])
def test_a_number_with_its_unit(text: str, number: int) -> None:
    assert whole(text) == number
