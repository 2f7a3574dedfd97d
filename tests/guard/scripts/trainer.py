"""A script for transformers' Trainer as people write it: a tiny model, rows of a file, checkpoints.

`python trainer.py DATA [--resume] [--plant frozen_loader]`
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
)

LENGTH = 16


class Rows(torch.utils.data.Dataset):
    def __init__(self, path: Path, *, is_frozen: bool) -> None:
        self.texts = [json.loads(line)["text"] for line in path.read_text().splitlines()]
        self.is_frozen = is_frozen

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if self.is_frozen and torch.utils.data.get_worker_info() is not None:
            time.sleep(3600)
        ids = list(self.texts[index].encode()[:LENGTH].ljust(LENGTH))
        return {"input_ids": ids, "labels": ids}


def byte_tokenizer() -> PreTrainedTokenizerFast:
    words = {f"<0x{byte:02X}>": byte for byte in range(256)} | {"<unk>": 256, "<end>": 257}
    model = BPE(vocab=words, merges=[], unk_token="<unk>", byte_fallback=True)
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(model), eos_token="<end>", pad_token="<end>"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--plant", default="")
    given = parser.parse_args()
    torch.manual_seed(0)
    frozen = given.plant == "frozen_loader"
    config = LlamaConfig(
        vocab_size=258,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    trainer = Trainer(
        model=LlamaForCausalLM(config),
        args=TrainingArguments(
            output_dir="out",
            num_train_epochs=1,
            per_device_train_batch_size=4,
            learning_rate=1e-2,
            logging_steps=1,
            save_steps=10,
            report_to="none",
            use_cpu=True,
            dataloader_num_workers=1 if frozen else 0,
        ),
        processing_class=byte_tokenizer(),
        train_dataset=Rows(given.data, is_frozen=frozen),
    )
    trainer.train(resume_from_checkpoint=given.resume or None)
    trainer.save_model()
    trainer.save_state()


if __name__ == "__main__":
    main()
