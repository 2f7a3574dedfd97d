"""Write the curriculum: three files to learn one after the other, and questions in none of them.

    python examples/syllogisms/make_curriculum.py FOLDER [--seed 0] [--rows 19900] [--questions 200]

The same numbers write the same files.
"""

import argparse
from pathlib import Path

from headway.commands.demos.syllogisms import NUM_QUESTIONS, NUM_ROWS, make_curriculum


def main() -> None:
    """Write the files and print their names."""
    parser = argparse.ArgumentParser(description="Write a curriculum of syllogisms.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, default=NUM_ROWS, help="of each file")
    parser.add_argument("--questions", type=int, default=NUM_QUESTIONS, help="held out")
    given = parser.parse_args()
    curriculum = make_curriculum(given.seed, given.rows, given.questions)
    given.folder.mkdir(parents=True, exist_ok=True)
    for lesson in curriculum.lessons:
        (given.folder / lesson.name).write_bytes(lesson.to_jsonl())
        print(given.folder / lesson.name)
    questions = given.folder / "questions.txt"
    questions.write_text("".join(f"{one.question}\n" for one in curriculum.questions))
    print(questions)


if __name__ == "__main__":
    main()
