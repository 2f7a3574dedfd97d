"""verify, backup and restore: what is asked for, and where there is nothing yet."""

import json
from pathlib import Path

import pytest

from headway.base.errors import Cause, UsageError
from headway.cli import run
from headway.commands.archives import restore
from headway.config.command_line import Arguments


@pytest.mark.parametrize(
    ("words", "cause"),
    [([], Cause.MISSING_ARGUMENT), (["a", "b", "c"], Cause.UNEXPECTED_ARGUMENT)],
)
def test_restore_needs_a_run_and_at_most_a_backup(words: list[str], cause: Cause) -> None:
    with pytest.raises(UsageError) as refused:
        restore(Arguments(words=words))
    assert refused.value.cause is cause
    assert refused.value.need == "headway restore RUN [BACKUP]"


def test_no_backups_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["backup", "--list", "--output-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == (
        f"no backups of the runs in {tmp_path} yet; headway backup makes one\n"
    )
    assert run(["backup", "--list", "--json", "--output-dir", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize("verb", ["verify", "backup", "restore"])
def test_without_the_run_there_is_nothing_to_do(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([verb, "nobody", "--output-dir", str(tmp_path)]) == 2
    assert "nobody" in capsys.readouterr().err
