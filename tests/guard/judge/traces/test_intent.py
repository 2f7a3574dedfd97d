"""What a command is for and asks for, from its arguments and its configuration file."""

import shlex
from pathlib import Path

import pytest

from headway.guard.judge.traces.intent import Purpose, read_intent


@pytest.mark.parametrize(
    ("command", "purpose"),
    [
        ("python train.py", Purpose.TRAIN),
        ("python -u src/finetune_lora.py --lr 1e-4", Purpose.TRAIN),
        ("torchrun --nproc-per-node 2 train.py --epochs 3", Purpose.TRAIN),
        ("accelerate launch train_dpo.py", Purpose.TRAIN),
        ("axolotl train config.yml", Purpose.TRAIN),
        ("llamafactory-cli train sft.yaml", Purpose.TRAIN),
        ("trl sft --model_name_or_path m", Purpose.TRAIN),
        ("python run_clm.py --do_train --do_eval", Purpose.TRAIN),
        ("python run_clm.py --do_eval", Purpose.EVALUATE),
        ("python run_clm.py --do_train False --do_eval True", Purpose.EVALUATE),
        ("python evaluate.py --model out", Purpose.EVALUATE),
        ("lm_eval --model hf", Purpose.EVALUATE),
        ("python -m pytest tests", Purpose.EVALUATE),
        ("python prepare_train_data.py corpus.txt", Purpose.PREPARE),
        ("python tokenize_corpus.py", Purpose.PREPARE),
        ("make train", Purpose.TRAIN),
        ("python -m pkg.data.train", Purpose.TRAIN),
        ("python train_data_parallel.py", Purpose.TRAIN),
        ("make data", Purpose.PREPARE),
        ("jupyter nbconvert --execute train.ipynb", Purpose.TRAIN),
        ("python evaluate.py data/train", Purpose.EVALUATE),
        ("bash run.sh", Purpose.UNKNOWN),
        ("python script.py", Purpose.UNKNOWN),
        ("python main.py --config train.json", Purpose.UNKNOWN),
    ],
)
def test_what_a_command_is_for(tmp_path: Path, command: str, purpose: Purpose) -> None:
    assert read_intent(tuple(shlex.split(command)), tmp_path).purpose is purpose


def test_options_are_found_however_they_are_written(tmp_path: Path) -> None:
    command = "train.py --output-dir out --lr=3e-4 --fp16 trainer.max_steps=100 -o x --delta -1"
    found = read_intent(tuple(shlex.split(command)), tmp_path)
    assert found.options == {
        "output_dir": "out",
        "lr": "3e-4",
        "fp16": "",
        "max_steps": "100",
        "o": "x",
        "delta": "-1",
    }
    assert found.first("missing", "lr") == "3e-4"
    assert found.number("lr") == 3e-4
    assert found.number("output_dir") is None
    assert found.is_set("fp16")
    assert not found.is_set("bf16")


def test_a_configuration_file_counts_and_arguments_win(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("output_dir: a\nlearning_rate: 1e-5\ntrain: {lora_r: 8}\n")
    found = read_intent(("axolotl", "train", "run.yaml", "--output_dir", "b"), tmp_path)
    assert found.first("output_dir") == "b"
    assert found.number("learning_rate") == 1e-5
    assert found.first("lora_r") == "8"


@pytest.mark.parametrize("content", [":\n  - [", "[1, 2]", "!!python/object:os.system x", "\x00"])
def test_an_odd_configuration_file_says_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.yaml").write_text(content)
    assert read_intent(("train", "run.yaml"), tmp_path).options == {}


def test_data_are_files_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").touch()
    found = read_intent(("train.py", "a.jsonl", "--data", "b.jsonl", "--more", "a.jsonl"), tmp_path)
    assert found.data == ("a.jsonl",)
