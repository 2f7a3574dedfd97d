"""The verb convert: to the screen or a file, refused where the result would differ."""

import json
from pathlib import Path

import pytest

from headway.cli import run

GOOD = "base_model: m\nsequence_len: 64\ndatasets:\n- path: chats.jsonl\nmicro_batch_size: 2\n"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("axolotl.yml").write_text(GOOD)


def test_it_shows_our_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["convert", "axolotl.yml"]) == 0
    told = capsys.readouterr()
    assert "max_length: 64 " in told.out
    assert told.err == ""


@pytest.mark.parametrize(
    "flag", [["-o", "ours.yaml"], ["--output", "ours.yaml"], ["--output=ours.yaml"]]
)
def test_it_writes_a_file_once(flag: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["convert", "axolotl.yml", *flag]) == 0
    assert "headway plan ours.yaml shows" in capsys.readouterr().out
    text = Path("ours.yaml").read_text()
    assert "  - chats.jsonl" in text
    Path("ours.yaml").write_text("mine: 1")
    assert run(["convert", "axolotl.yml", *flag]) == 2
    assert "ours.yaml already exists" in capsys.readouterr().err
    assert Path("ours.yaml").read_text() == "mine: 1"
    assert run(["convert", "axolotl.yml", *flag, "--force"]) == 0
    assert Path("ours.yaml").read_text() == text


def test_all_that_decides_and_has_no_counterpart_is_refused_at_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("axolotl.yml").write_text(f"{GOOD}load_in_8bit: true\nrl: dpo\n")
    assert run(["convert", "axolotl.yml", "-o", "ours.yaml"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "load_in_8bit: true is not available" in told.err
    assert "rl: dpo is not available" in told.err
    assert "headway convert axolotl.yml --force" in told.err
    assert not Path("ours.yaml").exists()
    assert run(["convert", "axolotl.yml", "--force"]) == 0
    assert "# Not available:\n#   load_in_8bit: true: " in capsys.readouterr().out


def test_json_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["convert", "axolotl.yml", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["tool"] == "Axolotl"
    assert told["data"] == ["chats.jsonl"]
    assert told["settings"]["max_length"] == "64"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "convert needs one file"),
        (["a.yml", "b.json"], "convert needs one file"),
        (["gone.yml"], "gone.yml not found"),
        (["axolotl.yml", "--from", "keras"], "--from keras: no such tool"),
        (["axolotl.yml", "-o", "no/such/folder.yaml"], "cannot write no/such/folder.yaml"),
    ],
)
def test_what_it_cannot_do_is_told(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["convert", *argv]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert "  try   " in told


def test_a_file_of_another_tool_given_to_train_is_sent_here(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["train", "axolotl.yml"]) == 2
    told = capsys.readouterr().err
    last = [line for line in told.splitlines() if line.startswith("  try   ")][-1]
    assert last.startswith("  try   headway convert axolotl.yml -o headway.yaml")
    assert "max_length: 64" in told
