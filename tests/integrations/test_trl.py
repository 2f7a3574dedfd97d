"""HeadwayCallback in TRL's SFTTrainer: padded, packed, with adapters, and with nothing to learn."""

import random
from pathlib import Path
from typing import Any

import pytest
import trl
from datasets import Dataset
from peft import LoraConfig
from tests.integrations.trainers import tiny_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from headway import HeadwayCallback
from headway.base.errors import Cause, Refusal
from headway.runs.watched.watched_receipt import WatchedReceipt, load_watched_receipt

pytestmark = pytest.mark.usefixtures("runtime")
WORDS = [f"w{number}" for number in range(3, 64)]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    names = ["<pad>", "<s>", "</s>", *WORDS]
    inner = Tokenizer(models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


def answers(num: int, prompt: int = 4) -> Dataset:
    draw = random.Random(0)

    def words(length: int) -> str:
        return " ".join(draw.choices(WORDS, k=length))

    return Dataset.from_list(
        [{"prompt": words(prompt), "completion": " " + words(4)} for _ in range(num)]
    )


def trained(folder: Path, tokenizer: Any, data: Dataset, **given: Any) -> WatchedReceipt:
    """The receipt of a run of SFTTrainer."""
    callback = HeadwayCallback(output_dir=folder / "runs", quiet=True)
    more = {name: given.pop(name) for name in ("peft_config",) if name in given}
    defaults: dict[str, Any] = {
        "output_dir": str(folder / "out"),
        "per_device_train_batch_size": 4,
        "num_train_epochs": 3,
        "learning_rate": 1e-2,
        "use_cpu": True,
        "bf16": False,
        "report_to": [],
        "disable_tqdm": True,
        "save_strategy": "no",
        "max_length": 16,
        "gradient_checkpointing": False,
    }
    trl.SFTTrainer(
        model=tiny_model(),
        args=trl.SFTConfig(**defaults | given),
        train_dataset=data,
        processing_class=tokenizer,
        callbacks=[callback],
        **more,
    ).train()
    assert callback.folder is not None
    return load_watched_receipt(callback.folder)


def test_padded_rows_are_counted(tmp_path: Path, tokenizer: Any) -> None:
    receipt = trained(tmp_path, tokenizer, answers(16))
    assert receipt.contract.verdict == "kept", receipt.contract
    assert receipt.program.startswith("SFTTrainer of transformers")
    assert receipt.line.startswith("kept: 12 of 12 steps, 16 rows 3 times each")
    assert receipt.tokens.trained == 3 * 16 * 5  # four words and the end


def test_packed_rows_are_not_claimed_to_be_told_apart(tmp_path: Path, tokenizer: Any) -> None:
    receipt = trained(tmp_path, tokenizer, answers(16), packing=True)
    assert receipt.contract.verdict == "kept", receipt.contract
    assert receipt.tokens.trained == 3 * 16 * 5
    assert not receipt.rows.all_equally_often


def test_adapters_are_no_false_alarm(tmp_path: Path, tokenizer: Any) -> None:
    receipt = trained(
        tmp_path, tokenizer, answers(16), peft_config=LoraConfig(r=2, target_modules=["q_proj"])
    )
    assert receipt.contract.verdict == "kept", receipt.contract
    tensors = receipt.learning_facts.tensors
    assert tensors is not None
    assert tensors.trainable == tensors.changed == 4


def test_t05_packed_answers_that_are_cut_off_are_refused(tmp_path: Path, tokenizer: Any) -> None:
    """Without packing, TRL drops these rows and then has none."""
    data = answers(16, prompt=20)
    with pytest.raises(Refusal) as caught:
        trained(tmp_path, tokenizer, data, packing=True, packing_strategy="bfd")
    assert caught.value.cause is Cause.NO_USABLE_RECORDS
