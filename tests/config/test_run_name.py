"""A run's name means one folder below the output folder, everywhere."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.base.errors import Cause, UsageError
from headway.config.resolve import resolve
from headway.config.run_name import MAX_BYTES, append_to_name, check_run_name, make_run_name
from headway.config.settings import Given

BAD = [
    *("..", ".", ".hidden", "../x", "../../x", "a/../../x", "/abs", "a/b", "a\\b", "~", "~root"),
    *("-rf", "--help", "x" * 300, "x" * (MAX_BYTES + 1), "ü" * 61, "C:x", "a*", "a?", 'a"b', "<a>"),
    *("a\nb", "a\tb", "a\x00b", "\x1b[31mred", "a\x7f", "a\u202eb", "a\u200bb", "a\u00a0b"),
    *(" a", "a ", " ", "a.", "a\udcff", "a\ue000", "a|b", "\ufeffa"),
]
GOOD = [
    "notes",
    "a.b",
    "v1.2-final_3",
    "my run",
    "x" * MAX_BYTES,
    "ü" * 60,
    "日本語",
    "a@b=c+d,e",
    "_a",
]


@pytest.mark.parametrize("name", BAD)
def test_a_name_that_is_no_folders_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError) as refused:
        resolve([Given("run_name", name, "--run-name")])
    assert refused.value.cause is Cause.INVALID_VALUE
    assert refused.value.need
    assert len(refused.value.what) < 130
    flag, valid = refused.value.remedies[0].do.split(" ")
    assert flag == "--run-name"
    assert check_run_name(valid) == valid


@pytest.mark.parametrize("name", GOOD)
def test_a_good_name_stays_as_it_is(name: str, tmp_path: Path) -> None:
    assert resolve([Given("name", name, "--name")]).run_name == name
    (tmp_path / f".{name}.1234567-1234567.tmp").mkdir()  # what it is made under
    assert [path.parent for path in tmp_path.iterdir()] == [tmp_path]


def test_a_name_with_a_password_is_refused_without_it() -> None:
    with pytest.raises(UsageError) as refused:
        resolve([Given("run_name", "s3://user:canary@b/x", "--run-name")])
    assert "canary" not in str(refused.value)
    assert refused.value.remedies[0].do == "--run-name x"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("data/notes.train.txt", "notes"),
        ("-", "stdin"),
        ("/dev/stdin", "stdin"),
        ("/dev/fd/63", "stdin"),
        ("/proc/self/fd/11", "stdin"),
        ("data/*", "data"),
        ("..", "run"),
        ("/", "run"),
        ("../..", "run"),
        (".hidden", "run"),
        ("--x--.txt", "x"),
        ("a\nb\x1b[31m.txt", "a-b--31m"),
        ("a\udcffb.txt", "a-b"),
        ("x" * 300 + ".txt", "x" * 60),
        ("y" * 59 + "-z.txt", "y" * 59),
        ("𐐀" * 80, "𐐀" * 30),
        ("s3://user:canary@bucket", "bucket"),
        ("s3://user:canary@bucket/", "bucket"),
        ("https://user:can/ary@h.org/d.jsonl?sig=canary", "d"),
        ("https://h.org/?token=canary", "h"),
        ("http:/user:canary@h/x.txt", "x"),
    ],
)
def test_a_name_is_made_from_the_stem_of_a_source(source: str, name: str) -> None:
    assert make_run_name(source) == name


@given(st.text(), st.booleans())
def test_every_name_that_is_made_is_a_good_one(source: str, trial: bool) -> None:
    name = make_run_name(source, trial=trial)
    assert check_run_name(name) == name
    assert name.endswith("-test") or not trial
    assert os.path.basename(name) == name  # noqa: PTH119


def test_what_is_appended_stays() -> None:
    assert append_to_name("notes", "-2") == "notes-2"
    assert append_to_name("x" * MAX_BYTES, "-2") == "x" * (MAX_BYTES - 2) + "-2"
