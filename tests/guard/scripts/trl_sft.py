"""A script for TRL's SFTTrainer: prompts and answers of a file, a LoRA adapter on a tiny model.

`python trl_sft.py DATA [--plant deadlock | masked]`
"""

import argparse
import json
import threading
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from tokenizers import Tokenizer
from tokenizers.models import BPE
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, TrainerCallback
from trl import SFTConfig, SFTTrainer


class Deadlock(TrainerCallback):
    """Takes a lock twice at step 3."""

    def __init__(self) -> None:
        self.metrics_lock = threading.Lock()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 3:
            self.metrics_lock.acquire()
            self.metrics_lock.acquire()


def byte_tokenizer() -> PreTrainedTokenizerFast:
    words = {f"<0x{byte:02X}>": byte for byte in range(256)} | {"<unk>": 256, "<end>": 257}
    model = BPE(vocab=words, merges=[], unk_token="<unk>", byte_fallback=True)
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(model), eos_token="<end>", pad_token="<end>"
    )


def rows(path: Path, *, is_masked: bool) -> Dataset:
    """Bytes as token ids; the mask says which are trained."""
    texts = [json.loads(line)["text"].encode()[:24] for line in path.read_text().splitlines()]
    return Dataset.from_list(
        [
            {
                "input_ids": list(text),
                "completion_mask": [0 if is_masked else int(at >= 8) for at in range(len(text))],
            }
            for text in texts
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--plant", default="")
    given = parser.parse_args()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=258,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        eos_token_id=257,
    )
    trainer = SFTTrainer(
        model=LlamaForCausalLM(config),
        args=SFTConfig(
            output_dir="out",
            num_train_epochs=1,
            per_device_train_batch_size=4,
            learning_rate=5e-2,
            logging_steps=1,
            save_steps=10,
            report_to="none",
            use_cpu=True,
            bf16=False,
            completion_only_loss=True,
            max_length=None,  # rows are short; with a length, TRL drops masked ones
        ),
        train_dataset=rows(given.data, is_masked=given.plant == "masked"),
        processing_class=byte_tokenizer(),
        peft_config=LoraConfig(r=4, target_modules=["q_proj", "v_proj", "up_proj", "down_proj"]),
        callbacks=[Deadlock()] if given.plant == "deadlock" else [],
    )
    trainer.train()


if __name__ == "__main__":
    main()
