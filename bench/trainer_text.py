"""Text with transformers' Trainer: documents in one line, cut into blocks beforehand."""

import itertools
import json

from timed_trainer import arguments, load_tokenizer, train
from transformers import default_data_collator


def main() -> None:
    """Tokenise, cut, train, write what happened."""
    asked = arguments()
    plan = json.loads(asked.plan.read_text())
    tokenizer = load_tokenizer(asked.tokenizer)
    texts = [path.read_text(encoding="utf-8") for path in sorted(asked.data.glob("*.py"))]
    encoded = tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]
    line = list(itertools.chain.from_iterable([*ids, tokenizer.eos_token_id] for ids in encoded))
    block = plan["data"]["max_length"]
    blocks = [line[at : at + block] for at in range(0, len(line) - block + 1, block)]
    rows = [{"input_ids": ids, "labels": ids} for ids in blocks]
    train(plan, rows, default_data_collator, asked.steps or plan["steps"]["num"], asked.result)


if __name__ == "__main__":
    main()
