"""Dispatch: which verb, and which exit code."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from headway import cli
from headway.base.errors import Cause, ComeBack, Exit, MachineError, UsageError
from headway.base.version import __version__
from headway.commands.verb import Verb


def test_help_and_version_are_words_and_flags(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--help"], ["-h"], ["help"]):
        assert cli.run(words) == 0
        assert "plan and train" in capsys.readouterr().out
    for words in (["help", "train"], ["train", "--help"], ["train", "-h"]):
        assert cli.run(words) == 0
        assert capsys.readouterr().out.startswith("usage: headway train DATA...")
    for words in (["--version"], ["-V"], ["version"]):
        assert cli.run(words) == 0
        assert capsys.readouterr().out == f"headway {__version__}\n"


def test_an_unknown_verb_is_told_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["trian"]) == 2
    assert "headway train" in capsys.readouterr().err
    assert cli._unknown_verb("xyz").cause is Cause.UNKNOWN_COMMAND


def test_a_file_in_place_of_a_verb_is_trained(
    tmp_path: object, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([__file__]) == 2
    assert f"headway train {__file__}" in capsys.readouterr().err


def fail_with(error: BaseException, monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    def run(_: object) -> int:
        raise error

    monkeypatch.setitem(cli.VERBS, "fail", Verb("fail", "", run, {}))
    return cli.run(["fail", *words])


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("no", cause=Cause.INVALID_VALUE), 2),
        (MachineError("no", cause=Cause.DISK_FULL), 5),
        (ComeBack("no", cause=Cause.NO_ANSWER), 75),
        (KeyboardInterrupt(), 130),
        (RuntimeError("no"), 1),
        (BrokenPipeError("to a child"), 1),
    ],
)
def test_how_it_fails_is_the_exit_code(
    error: BaseException,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert fail_with(error, monkeypatch) == code
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert (f"this is a bug in Headway: {type(error).__name__}: " in err) == (code == 1)


def test_a_reader_that_left_changes_no_exit_code() -> None:
    """`headway verify | head -1` still says whether it verified."""
    code = """
from headway import cli
from headway.commands.verb import Verb, print_lines
def fail(_):
    while print_lines(["a line"]):
        pass
    print_lines(["another"])
    return 4
cli.VERBS["fail"] = Verb("fail", "", fail, {})
raise SystemExit(cli.run(["fail"]))
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"a line\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 4


@pytest.mark.parametrize("verbose", [[], ["--verbose"]])
@pytest.mark.parametrize(
    "error", [RuntimeError("at s3://user:canary@b"), UsageError("x", cause=Cause.INVALID_VALUE)]
)
def test_f62_no_traceback_shows_a_password(
    error: Exception,
    verbose: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    error.__cause__ = ValueError("from https://user:canary@h/x?sig=canary")
    fail_with(error, monkeypatch, *verbose)
    err = capsys.readouterr().err
    assert "canary" not in err
    assert ("Traceback" in err) == bool(verbose)


def test_f62_an_address_in_place_of_a_verb_is_told_without_password(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.run(["s3://user:canary@b/x"]) == 2
    assert "canary" not in capsys.readouterr().err


def test_native_windows_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert cli.run(["doctor"]) == 2
    assert "WSL2" in capsys.readouterr().err


def test_a_reader_that_leaves_is_no_failure() -> None:
    command = f"{sys.executable} -m headway.cli train --help | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, env=os.environ, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_help_loads_nothing_heavy_and_is_quick() -> None:
    code = (
        "import sys; from headway.cli import run; run(['--help']);"
        "heavy = {'torch', 'numpy', 'rich', 'msgspec', 'transformers', 'headway.runs.plan'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    began_s = time.monotonic()
    out = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert out.splitlines()[-1] == "[]"
    assert time.monotonic() - began_s < 10  # a bound for the noisiest machine; usually 0.1


@pytest.mark.parametrize("verb", cli.VERBS)
def test_no_verb_ignores_a_word(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["no-such-1", "no-such-2", "no-such-3"]
    assert cli.run([verb, *words]) in (Exit.USAGE, Exit.DATA)
    told = capsys.readouterr().err
    assert words[0] in told or verb == "eval"  # which looks for its run first, and there is none


@pytest.mark.parametrize(
    "words", [["doctor", "2137"], ["runs", "2137"], ["help", "2137"], ["help", "train", "2137"],
              ["--version", "2137"], ["demo", "2137.yaml"], ["train", "a.yaml", "2137.yaml"]]
)  # fmt: skip
def test_a_word_too_many_is_refused_by_name(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(words) == Exit.USAGE
    assert "2137" in capsys.readouterr().err
