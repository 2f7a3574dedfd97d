"""Check answers to syllogisms, to the letter. What is right is derived from each question alone.

    python examples/syllogisms/check_answers.py ANSWERS.jsonl

Each line of the file is an object with "question" and "answer". Exit code 1 if one is wrong.
"""

import json
import sys
from pathlib import Path

from headway.commands.demos.syllogisms import is_exact, solve


def main(path: Path) -> int:
    """Print the wrong answers and the score."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    wrong = [one for one in lines if not is_exact(one["answer"], one["question"])]
    for one in wrong:
        print(f"{one['question']}\n  wrong  {one['answer']}\n  right  {solve(one['question'])}")
    print(f"{len(lines) - len(wrong)} of {len(lines)} exactly right")
    return 1 if wrong or not lines else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1])))
