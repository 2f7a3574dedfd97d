"""The syllogisms: both programs, as they are typed."""

import json
import subprocess
import sys
from pathlib import Path

from tests.examples.commands import EXAMPLES

FOLDER = EXAMPLES / "syllogisms"


def run(program: str, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(FOLDER / program), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_curriculum_is_three_files_and_questions(tmp_path: Path) -> None:
    made = run("make_curriculum.py", str(tmp_path), "--rows", "20", "--questions", "6")
    names = ["1-easy.jsonl", "2-medium.jsonl", "3-hard.jsonl", "questions.txt"]
    assert made.stdout.splitlines() == [str(tmp_path / name) for name in names]
    for name in names[:3]:
        assert len((tmp_path / name).read_text().splitlines()) == 20
    questions = (tmp_path / "questions.txt").read_text().splitlines()
    assert len(questions) == 6
    assert all(
        question not in (tmp_path / name).read_text()
        for question in questions
        for name in names[:3]
    )


def test_an_answer_is_right_to_the_letter_or_it_is_told(tmp_path: Path) -> None:
    answers = tmp_path / "answers.jsonl"
    right = {"question": "Whoever bakes sings. Ada bakes. What follows?"}
    right["answer"] = "Ada bakes. Whoever bakes sings. So Ada sings."
    answers.write_text(json.dumps(right) + "\n")
    checked = run("check_answers.py", str(answers))
    assert (checked.returncode, checked.stdout) == (0, "1 of 1 exactly right\n")
    with answers.open("a") as file:
        file.write(json.dumps(right | {"answer": "So Ada sings."}) + "\n")
    checked = run("check_answers.py", str(answers))
    assert checked.returncode == 1
    assert checked.stdout.endswith("1 of 2 exactly right\n")
    assert "  right  Ada bakes. Whoever bakes sings. So Ada sings." in checked.stdout
