"""A tokenizer on one line of a file for which its pattern takes quadratic time."""

import sys
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, pre_tokenizers

path = Path(sys.argv[1]) / "rows.jsonl"
path.write_text("a short line\n" * 41 + "a" * 200_000 + "!\n" + "another line\n" * 5)
tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"(?:a|c)+\d"), "isolated")


def tokenize() -> None:
    with path.open() as lines:
        for line in lines:
            if len(line) > 1000:
                print("ready", flush=True)
            tokenizer.encode(line.rstrip())


tokenize()
