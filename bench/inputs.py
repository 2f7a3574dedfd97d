"""What is trained on: conversations cut from Python's own manual; Python's own sources."""

import json
import random
import sysconfig
from collections.abc import Iterator
from pathlib import Path

# Words of a question and of an answer, drawn evenly. Under a tokenizer of 8,192 tokens a chat has
# 34 tokens on average and some 80 at most, and two fifths of them are the answer's.
_QUESTION = (2, 15)
_ANSWER = (2, 17)
# A system prompt of 400 tokens under the same tokenizer.
_PROMPT_WORDS = 322


def chats(num: int, *, system_prompt: bool = False) -> str:
    """Conversations as JSONL: some words of the manual, and the words that follow them.

    Args:
        num: how many.
        system_prompt: each begins with the same long one.
    """
    draw = random.Random(0)
    words = _manual()
    prompt = " ".join(next(words) for _ in range(_PROMPT_WORDS))
    system = [{"role": "system", "content": prompt}] if system_prompt else []
    lines: list[str] = []
    for _ in range(num):
        question, answer = (
            " ".join(next(words) for _ in range(draw.randint(*ends)))
            for ends in (_QUESTION, _ANSWER)
        )
        turns = [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
        lines.append(json.dumps({"messages": system + turns}) + "\n")
    return "".join(lines)


def _manual() -> Iterator[str]:
    """The words of the language reference that comes with Python, over and over."""
    from pydoc_data.topics import topics

    words = [word for name in sorted(topics) for word in topics[name].split() if len(word) < 12]
    while True:
        yield from words


def copy_sources(folder: Path, most_bytes: int) -> int:
    """Modules of Python's standard library, in alphabetical order, up to a size; the bytes."""
    folder.mkdir()
    total = 0
    for module in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        source = module.read_bytes()
        if total + len(source) <= most_bytes:
            (folder / module.name).write_bytes(source)
            total += len(source)
    return total
