import os
from pathlib import Path

import pytest

from headway.diagnose.evidence.source_line import SourceLine, source_line

CODE = """\
def step():
    with self.lock:
        # the second lock is taken too
        for row in rows:
            with other.lock, open("a") as file:
                if row:
                    get('https://me:secret@host/x')
    done()

with outside:
    class Step:
        async def run(self):
            async with self.gate:
                wait()
"""


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "train.py"
    path.write_text(CODE)
    return path


def test_the_line_stands_without_its_indentation(module: Path) -> None:
    assert source_line(str(module), 2) == SourceLine("with self.lock:")


def test_the_blocks_around_it_are_those_of_its_function(module: Path) -> None:
    inner = ('with other.lock, open("a") as file:', "with self.lock:")
    assert source_line(str(module), 7).inside == inner
    assert source_line(str(module), 5).inside == inner[1:]
    assert source_line(str(module), 8).inside == ()
    assert source_line(str(module), 14) == SourceLine("wait()", ("async with self.gate:",))


def test_no_credential_is_shown(module: Path) -> None:
    assert "secret" not in source_line(str(module), 7).text
    assert "host" in source_line(str(module), 7).text


@pytest.mark.parametrize("line", [-1, 0, 15, 10_000])
def test_a_line_that_is_not_there_is_empty(module: Path, line: int) -> None:
    assert source_line(str(module), line) == SourceLine()


def test_a_long_line_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "long.py"
    path.write_text("x" * 1000)
    assert source_line(str(path), 1).text == "x" * 120


def test_only_a_regular_python_file_is_opened(tmp_path: Path, module: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "link.py").symlink_to(module)
    (tmp_path / "notes.txt").write_text("a\n")
    (tmp_path / "huge.py").write_bytes(b"a\n" * (1 << 22))
    for name in ("pipe.py", "link.py", "notes.txt", "huge.py", "missing.py"):
        assert source_line(str(tmp_path / name), 1) == SourceLine(), name
    assert source_line("<frozen importlib._bootstrap>", 1) == SourceLine()
    assert source_line("a\0b.py", 1) == SourceLine()
