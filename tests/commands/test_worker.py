"""The verb worker: a saved plan, trained by the processes that a launcher starts."""

from pathlib import Path

import pytest

from headway.cli import run


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "worker needs a run"),
        (["a", "b"], "headway worker RUN takes no arguments"),
        (["nothing-here"], "nothing-here"),
    ],
)
def test_what_it_cannot_use_is_refused(
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["worker", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_launcher_that_says_not_where_to_meet_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    for name, value in {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0"}.items():
        monkeypatch.setenv(name, value)
    assert run(["worker", "notes"]) == 2
    assert "do not know where to meet" in capsys.readouterr().err
