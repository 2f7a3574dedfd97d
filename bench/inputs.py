"""What is trained on: conversations cut from Python's own manual; Python's own sources."""

import hashlib
import json
import random
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
    words = manual_words()
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


def manual_words() -> Iterator[str]:
    """The words of the language reference that comes with Python, over and over."""
    from pydoc_data.topics import topics

    words = [word for name in sorted(topics) for word in topics[name].split() if len(word) < 12]
    while True:
        yield from words


@dataclass(frozen=True)
class Corpus:
    """What was written of a corpus."""

    files: int
    bytes: int
    words: int  # between blanks
    sha256: str  # of all files one after the other


def write_corpus(folder: Path, most_bytes: int, roots: Sequence[Path] = ()) -> Corpus:
    """Python sources, cut to a size: the standard library first, then what is installed.

    Args:
        folder: is made; files are numbered in the order in which they were taken.
        most_bytes: of all files; the last one is cut after a line.
        roots: where sources are taken from instead.
    """
    folder.mkdir()
    files = num_words = 0
    left, digest = most_bytes, hashlib.sha256()
    for source in _sources(roots or [Path(sysconfig.get_path(n)) for n in ("stdlib", "purelib")]):
        part = source.read_bytes()
        if len(part) > left:
            part = part[: part.rfind(b"\n", 0, left) + 1]
        if part and _is_text(part):
            files += 1
            (folder / f"{files:05}-{source.name}").write_bytes(part)
            num_words += len(part.split())
            digest.update(part)
            left -= len(part)
        if len(part) < source.stat().st_size:
            break
    return Corpus(files, most_bytes - left, num_words, digest.hexdigest())


def _sources(roots: Sequence[Path]) -> Iterator[Path]:
    """All sources below each root, by name; of the first root without the packages in it."""
    for root in roots:
        for source in sorted(root.rglob("*.py")):
            if "site-packages" not in source.relative_to(root).parts:
                yield source


def _is_text(content: bytes) -> bool:
    """Whether it is in UTF-8; the standard library tests other encodings too."""
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


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
