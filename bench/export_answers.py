"""Held-out questions, asked of a trained model in PyTorch and of its GGUF file in llama.cpp.

    python bench/export_answers.py syllogisms                  headway finetune, then both are asked
    python bench/export_answers.py syllogisms --files 1        one of the three files to learn
    python bench/export_answers.py handbook RUN                a run of `headway demo`
    python bench/export_answers.py inbox RUN                   the last run of the inbox demo

Answers are greedy. Whole answers are compared to the letter, and marked by the demo's own checker.
With --write, the result goes to results/DATE-export-answers-NAME.json.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import report
from trials import HEADWAY, HERE

from headway.commands.demos.demo_export import Asked, ComparedAnswers
from headway.commands.demos.handbook import Exam, load_handbook
from headway.commands.demos.lesson import ask
from headway.commands.demos.syllogisms import is_exact, make_curriculum
from headway.config.command_line import Arguments
from headway.export.verify import llama_cpp

FORMATS = ("f16", "q8_0", "q6_k", "q4_k_m")
TRAINING = (
    *("--preset", "tiny", "--vocab-size", "1024", "--batch-size", "16"),
    *("--learning-rate", "2e-3", "--no-bf16", "--run-name", "syllogisms"),
)


def main() -> None:
    """Measure, print, write a dated result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("syllogisms", "handbook", "inbox"))
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("--formats", default=",".join(FORMATS))
    parser.add_argument("--files", type=int, default=3, help="of the curriculum, to learn")
    parser.add_argument("--questions", type=int, default=200, help="about syllogisms, held out")
    parser.add_argument("--name", default="", help="of the result")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    formats = asked.formats.split(",")
    load = os.getloadavg()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        if asked.what == "syllogisms":
            found = syllogisms(place, asked.files, asked.questions, formats)
        else:
            exam = handbook() if asked.what == "handbook" else held_out(3, asked.questions)
            found = compare(asked.run.resolve(), exam, place, formats)
    told: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "what": asked.what,
        "machine": report.machine(),
        "versions": report.versions(),
        "load_before": load,
        "seconds": round(time.monotonic() - begin, 1),
        **found,
    }
    print(json.dumps(told, indent=2))
    if asked.write:
        name = asked.name or asked.what
        path = HERE / "results" / f"{told['at'][:10]}-export-answers-{name}.json"
        path.write_text(json.dumps(told, indent=2) + "\n")


def handbook() -> Callable[[Sequence[str]], Asked]:
    """The demo's questions about the handbook; none of them is trained."""
    facts = load_handbook().facts

    def with_answers(answers: Sequence[str]) -> Asked:
        return Asked(
            tuple(fact.ask for fact in facts),
            tuple(answers),
            32,
            lambda given: Exam(facts, given).num_right,
        )

    return with_answers


def held_out(num_files: int, num: int) -> Callable[[Sequence[str]], Asked]:
    """Syllogisms of the levels in the first files; none of them is in a file."""
    curriculum = make_curriculum()
    levels = [lesson.name.split("-")[1].partition(".")[0] for lesson in curriculum.lessons]
    every = make_curriculum(num_questions=num * 3 // num_files) if num_files < 3 else curriculum
    questions = tuple(one.question for one in every.questions if one.level in levels[:num_files])[
        :num
    ]

    def with_answers(answers: Sequence[str]) -> Asked:
        def num_right(given: tuple[str, ...]) -> int:
            return sum(is_exact(*pair) for pair in zip(given, questions, strict=True))

        return Asked(questions, tuple(answers), 64, num_right)

    return with_answers


def syllogisms(
    place: Path, num_files: int, num_questions: int, formats: Sequence[str]
) -> dict[str, Any]:
    """Learn the first files with `headway finetune`, which exports the model; ask both."""
    num = num_questions * 3 // num_files if num_files < 3 else num_questions
    lessons = make_curriculum(num_questions=num).lessons[:num_files]
    for lesson in lessons:
        (place / lesson.name).write_bytes(lesson.to_jsonl())
    files = [lesson.name for lesson in lessons]
    words = ["finetune", *files, *TRAINING, "--to", "gguf", "--out", "out", "--quiet"]
    begin = time.monotonic()
    done = subprocess.run([HEADWAY, *words], cwd=place, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    trained_s = time.monotonic() - begin
    print(done.stdout, flush=True)
    exam = held_out(num_files, num_questions)
    found = compare(place / "runs" / "syllogisms", exam, place, formats, place / "out")
    return {"command": " ".join(words), "finetune_s": round(trained_s, 1), **found}


def compare(
    run: Path,
    exam: Callable[[Sequence[str]], Asked],
    place: Path,
    formats: Sequence[str],
    exported: Path | None = None,
) -> dict[str, Any]:
    """Ask a run here, and its GGUF files in llama.cpp.

    Args:
        run: its folder.
        exam: the questions, with answers to them.
        place: for the files.
        formats: of their weights.
        exported: a folder that holds the one in f16 already.
    """
    questions = exam(()).questions
    asked = exam(ask(Arguments(switches={"quiet": ""}), run, questions, exam(()).num_tokens))
    found: list[dict[str, Any]] = []
    merged = False
    for quantize in formats:
        out = exported if exported and quantize == "f16" else place / quantize
        if out is not exported:
            words = ["export", str(run), "--to", "gguf", "--quantize", quantize, "-o", str(out)]
            done = subprocess.run([HEADWAY, *words, "--verify"], capture_output=True, text=True)
            if done.returncode:
                found.append({"quantize": quantize, "refused": done.stderr[-2000:]})
                continue
        (file,) = out.glob("*.gguf")
        replies = llama_cpp.ask(file, asked.questions, asked.num_tokens)
        compared = ComparedAnswers(asked, replies)
        note = json.loads((out / "export.json").read_bytes())
        merged = note["merged"]
        found.append(
            {
                "quantize": quantize,
                "bytes": file.stat().st_size,
                **compared.numbers(),
                "checks": {
                    one["what"]: [one["measured"], one["limit"]]
                    for one in note["verification"]["checks"]
                    if one["measured"] is not None
                },
                "warnings": [one["what"] for one in note["findings"] if one["kind"] == "warning"],
                "verified_s": note["verification"]["seconds"],
                "differing": [
                    [asked.questions[at], asked.answers[at], replies[at].text]
                    for at in range(len(replies))
                    if not compared.is_same(at)
                ][:10],
            }
        )
        print(json.dumps(found[-1]), flush=True)
        file.unlink()
    return {"merged": merged, "files": found}


if __name__ == "__main__":
    main()
