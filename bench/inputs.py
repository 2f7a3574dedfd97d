"""What is trained on: chats that are short and a context that is long; Python's own sources."""

import json
import random
import sysconfig
from pathlib import Path

# The user's chatter beside a sum, in characters. With it a chat has 34 tokens on average and 67
# at most, under the byte-level tokenizer.
_ASIDES = (0, 0, 0, 0, 0, 0, 8, 12, 16, 40)


def chats(num: int) -> str:
    """Conversations as JSONL: a sum, sometimes with an aside, and its answer."""
    draw = random.Random(0)
    lines: list[str] = []
    for _ in range(num):
        a, b = draw.randrange(100), draw.randrange(100)
        messages = [
            {"role": "user", "content": f"{a}+{b}" + "x" * draw.choice(_ASIDES)},
            {"role": "assistant", "content": str(a + b)},
        ]
        lines.append(json.dumps({"messages": messages}) + "\n")
    return "".join(lines)


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
