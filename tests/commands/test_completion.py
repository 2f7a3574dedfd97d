"""Completion: what a real bash offers for a command that is being typed."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from headway.cli import VERBS, run
from headway.commands.completion import SHELLS, script, table_of
from headway.config.settings import printed_name, table

OFFER = """
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_headway
if [ ${#COMPREPLY[@]} -gt 0 ]; then printf '%s\\n' "${COMPREPLY[@]}"; fi
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with runs, data, and the script of bash."""
    for run_folder in ("runs/notes", "runs/nested", "runs/my notes", "runs/it's", "other/far"):
        (tmp_path / run_folder).mkdir(parents=True)
        (tmp_path / run_folder / "plan.json").touch()
    (tmp_path / "runs" / "watched").mkdir()
    (tmp_path / "runs" / "watched" / "watched.json").touch()  # a run of another program
    (tmp_path / "runs" / "no run").mkdir()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "my data.txt").touch()
    (tmp_path / "headway.bash").write_text(script("bash", VERBS))
    return tmp_path


def offered(here: Path, *typed: str) -> list[str]:
    command = ["bash", "--norc", "-c", OFFER, "bash", "headway.bash", "headway", *typed]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("sta", ["status"]),
        ("help sta", ["status"]),
        ("logs n", ["nested", "notes"]),
        ("logs m", ["my\\ notes"]),
        ("logs i", ["it\\'s"]),
        ("logs w", ["watched"]),
        ("logs -o other ''", ["far"]),
        ("logs --output-dir=other ''", ["far"]),
        ("logs --output-dir = other ''", ["far"]),
        ("logs --output_dir other ''", ["far"]),
        ("logs -o oth", ["other"]),
        ("logs -n ''", []),
        ("logs --fo", ["--follow"]),
        ("train --device ''", ["cpu", "cuda", "mps"]),
        ("train --device = c", ["cpu", "cuda"]),
        ("train --device =", ["cpu", "cuda", "mps"]),
        ("train --lr_scheduler_type l", ["linear"]),
        ("train --continue n", ["nested", "notes"]),
        ("train --no-bf", ["--no-bf16"]),
        ("train --seq-l", ["--seq-len"]),
        ("train --lora.r", ["--lora.r"]),
        ("train -m no", ["notes.txt"]),
        ("train my", ["my data.txt"]),  # quoted by readline, as a file name
        ("train --lora no", ["notes.txt"]),
        ("eval no", ["notes", "notes.txt"]),
        ("runs --delete n", ["nested", "notes"]),
        ("completion ''", ["bash", "zsh", "fish"]),
    ],
)
def test_what_is_offered(here: Path, typed: str, found: list[str]) -> None:
    assert offered(here, *shlex.split(typed)) == found


def test_every_verb_is_offered_and_where_there_is_no_run_nothing(here: Path) -> None:
    assert set(VERBS) <= set(offered(here, ""))
    assert offered(here, "logs", "-o", "nowhere", "") == []


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_is_offered(here: Path, verb: str) -> None:
    found = set(offered(here, verb, "-"))
    wanted = {f"--{name.replace('_', '-')}" for name in VERBS[verb].options}
    if VERBS[verb].settings:
        wanted |= {f"--{printed_name(row).replace('_', '-')}" for row in table()}
    assert wanted | {"--help", "-h", "--json", "-q"} <= found


def test_bash_reads_the_script_as_its_users_do(here: Path) -> None:
    code = f"source <({sys.executable} -m headway completion bash); complete -p headway"
    done = subprocess.run(
        ["bash", "--norc", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "complete -F _headway headway\n"


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_gets_every_spelling_and_choice(shell: str) -> None:
    text = script(shell, VERBS)
    for name, verb in VERBS.items():
        for option in table_of(name, verb).options:
            for spelling in option.names:
                there = spelling.lstrip("-") if shell == "fish" else spelling
                assert there in text
            assert option.takes.startswith("@") or option.takes in text


@pytest.mark.parametrize("words", [[], ["tcsh"], ["bash", "zsh"]])
def test_another_shell_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", *words]) == 2
    assert "headway completion bash" in capsys.readouterr().err
