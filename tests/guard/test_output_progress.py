"""Lines as training programs print them, and what is read from each."""

import math
from typing import Any

import pytest

from headway.guard.facts import ProgressRecord
from headway.guard.output_progress import plain, read_progress

# Printed by: transformers 4 and 5, TRL, Axolotl, LLaMA-Factory
TRAINER = [
    (
        "{'loss': 2.4071, 'grad_norm': 1.25, 'learning_rate': 5e-05, 'epoch': 0.03}",
        {"loss": 2.4071, "grad_norm": 1.25, "learning_rate": 5e-05, "epoch": 0.03},
    ),
    (
        "{'loss': '2.407', 'grad_norm': '1.2', 'learning_rate': '0', 'epoch': '0.03'}",
        {"loss": 2.407, "grad_norm": 1.2, "learning_rate": 0.0, "epoch": 0.03},
    ),
    (
        "{'train_runtime': '12.3', 'train_loss': '2.3', 'epoch': '1'}",
        {"run_seconds": 12.3, "loss": 2.3, "epoch": 1.0},
    ),
    (
        "{'eval_loss': '2.31', 'eval_runtime': '0.4', 'epoch': '1'}",
        {"loss": 2.31, "epoch": 1.0, "is_evaluation": True},
    ),
    (
        "100%|██████████| 3/3 [00:00<00:00,  9.8it/s]{'loss': 1.0, 'learning_rate': 1e-5}",
        {"step": 3, "total": 3, "loss": 1.0, "learning_rate": 1e-5, "is_bar": True, "unit": "it"},
    ),
    ("***** Running training *****", None),
    ("  Num Epochs = 3", None),
    ("  Total optimization steps = 300", None),
    ("  Gradient Accumulation steps = 8", None),
    ("trainable params: 1,234 || all params: 5,678 || trainable%: 21.7", None),
]
# tqdm: transformers, datasets, huggingface_hub, Lightning, torchtune, accelerate's examples
BARS = [
    (
        " 45%|████▌     | 45/100 [00:12<00:15,  3.60it/s]",
        {"step": 45, "total": 100, "is_bar": True, "unit": "it"},
    ),
    (
        "  0%|          | 0/100 [00:00<?, ?it/s]",
        {"step": 0, "total": 100, "is_bar": True, "unit": "it"},
    ),
    ("12it [00:03,  3.9it/s]", {"step": 12, "is_bar": True, "unit": "it"}),
    (
        "Map:  45%|████▌     | 450/1000 [00:00<00:00, 4500.00 examples/s]",
        {"step": 450, "total": 1000, "is_bar": True, "what": "Map", "unit": "examples"},
    ),
    (
        "model.safetensors:  12%|█▏        | 1.2G/9.9G [00:12<01:15, 115MB/s]",
        {
            "step": 1_200_000_000,
            "total": 9_900_000_000,
            "is_bar": True,
            "what": "model.safetensors",
            "unit": "B",
        },
    ),
    (
        "Generating train split: 1000 examples [00:00, 12345.67 examples/s]",
        {"step": 1000, "is_bar": True, "what": "Generating train split", "unit": "examples"},
    ),
    (
        "Epoch 0:  45%|████▌     | 45/100 [00:12<00:15,  3.60it/s, v_num=0, train_loss=2.410]",
        {
            "step": 45,
            "total": 100,
            "epoch": 0.0,
            "loss": 2.41,
            "is_bar": True,
            "what": "Epoch 0",
            "unit": "it",
        },
    ),
    (
        "Validation DataLoader 0:  45%|████▌     | 45/100 [00:12<00:15,  3.60it/s]",
        {
            "step": 45,
            "total": 100,
            "is_bar": True,
            "what": "Validation DataLoader 0",
            "is_evaluation": True,
            "unit": "it",
        },
    ),
    (
        "Epoch 0/9  ━━━━━╸━━━ 45/100 0:00:12 • 0:00:15 3.60it/s v_num: 0.000 train_loss: 2.41",
        {
            "step": 45,
            "total": 100,
            "epoch": 0.0,
            "loss": 2.41,
            "is_bar": True,
            "what": "Epoch 0/9",
            "unit": "it",
        },
    ),
    (
        "1|12|Loss: 2.4102:  12%|█▏        | 12/100 [00:30<03:40,  2.5s/it]",
        {"step": 12, "total": 100, "loss": 2.4102, "is_bar": True, "unit": "it"},
    ),
]
# nanoGPT, LitGPT, torchtune, torchtitan, llm.c, Megatron, Keras, PyTorch's and timm's examples
LOGS = [
    ("step 250: train loss 2.1034, val loss 2.3456", {"step": 250, "loss": 2.1034}),
    ("iter 10: loss 3.1234, time 45.00ms, mfu 1.00%", {"step": 10, "loss": 3.1234}),
    (
        "Epoch 1 | iter 10 step 5 | loss train: 2.410, val: n/a | iter time: 123.45 ms (step)",
        {"epoch": 1.0, "step": 5, "loss": 2.41},
    ),
    (
        "Step 1 | loss:2.41 lr:2e-05 tokens_per_second_per_gpu:123.4 grad_norm:1.2",
        {"step": 1, "loss": 2.41, "learning_rate": 2e-05, "grad_norm": 1.2},
    ),
    (
        "[titan] 2026-11-30 03:22:01,123 - root - INFO - step: 10  loss:  8.1234  grad_norm:  1.0  "
        "memory: 1.2GiB(5%)  tps: 1,234  mfu: 5%",
        {"step": 10, "loss": 8.1234, "grad_norm": 1.0},
    ),
    (
        "step    1/100 | loss 4.677779 (+nanz)| norm 26.2 (+nanz)| lr 6.00e-05 | 231 ms",
        {"step": 1, "total": 100, "loss": 4.677779, "learning_rate": 6e-05},
    ),
    (
        " iteration       10/     100 | consumed samples:  80 | elapsed time (ms): 123.4 "
        "| learning rate: 1.500E-04 | lm loss: 1.012345E+01 | grad norm: 1.2",
        {
            "step": 10,
            "total": 100,
            "learning_rate": 1.5e-4,
            "loss": 10.12345,
            "grad_norm": 1.2,
        },
    ),
    (
        "45/100 [====>.........] - ETA: 12s - loss: 2.41 - accuracy: 0.5",
        {"step": 45, "total": 100, "loss": 2.41},
    ),
    ("Epoch 1/5", {"epoch": 1.0}),
    (
        "Train Epoch: 1 [640/60000 (1%)]\tLoss: 2.253910",
        {"epoch": 1.0, "step": 640, "total": 60000, "loss": 2.25391},
    ),
    (
        "Epoch: [0]  [ 10/100]  eta: 0:00:12  lr: 0.020000  loss: 2.1000 (2.3000)  time: 0.1",
        {"epoch": 0.0, "step": 10, "total": 100, "learning_rate": 0.02, "loss": 2.1},
    ),
    (
        "Train: 0 [  50/1251 (  4%)]  Loss: 6.93 (6.94)  Time: 0.4s LR: 1.000e-05",
        {"step": 50, "total": 1251, "loss": 6.93, "learning_rate": 1e-05},
    ),
    (
        '{"step": 10, "loss": 2.4, "lr": 0.0001}',
        {"step": 10, "loss": 2.4, "learning_rate": 0.0001},
    ),
    (
        "[2026-11-30] [INFO] [logging.py:96:log_dist] [Rank 0] step=10, skipped=0, lr=[1e-05]",
        {"step": 10, "learning_rate": 1e-05},
    ),
    (
        "train/loss: 2.4 train/lr: 1e-4 epoch: 1.5",
        {"loss": 2.4, "learning_rate": 1e-4, "epoch": 1.5},
    ),
    ("Epoch 3, Loss: 0.6931", {"epoch": 3.0, "loss": 0.6931}),
    ("loss=0.0", {"loss": 0.0}),
    ("global_step=30 | train_loss=inf", {"step": 30, "loss": math.inf}),
    ("Validation loss: 1.23", {"loss": 1.23, "is_evaluation": True}),
    (
        "Test set: Average loss: 0.0321, Accuracy: 9900/10000 (99%)",
        {"loss": 0.0321, "is_evaluation": True},
    ),
    ("max_steps=100 warmup_steps=10", None),
    ("listening on 127.0.0.1:8080", None),
    ("Saving model checkpoint to out/checkpoint-500", None),
    ("", None),
]


@pytest.mark.parametrize(("line", "values"), TRAINER + BARS + LOGS)
def test_what_a_line_says(line: str, values: dict[str, Any] | None) -> None:
    assert read_progress(line, 7.0) == (None if values is None else ProgressRecord(7.0, **values))


@pytest.mark.parametrize(
    "line", ["step 3 loss nan", "{'loss': nan}", "train_loss: NaN", "loss=-nan"]
)
def test_a_loss_that_is_not_a_number_is_read_as_that(line: str) -> None:
    found = read_progress(line, 0.0)
    assert found is not None
    assert found.loss is not None
    assert math.isnan(found.loss)


def test_colors_are_ignored() -> None:
    line = "\x1b[32mstep 12/100\x1b[0m \x1b[1mloss 2.5\x1b[0m\x1b[K"
    assert plain(line) == "step 12/100 loss 2.5"
    assert read_progress(line, 0.0) == ProgressRecord(0.0, step=12, total=100, loss=2.5)


@pytest.mark.parametrize(
    ("line", "step"),
    [
        ("step" + " " * 5000 + "9", None),
        ("step" + " " * 900 + "9", 9),
        ("loss:" + " " * 5000, None),
        ("%|" * 2000, None),
        ("[" * 5000 + "3/4", None),
        ("step " + "9" * 5000, int("9" * 1495)),
        ("1%| |" + "9" * 400 + "G/1 [", None),
        ("1.2.3%| |1.2.3/4.5.6 [", None),
        ("max_" * 2000 + "steps 3", None),
    ],
)
def test_no_line_takes_long_or_breaks_the_reader(line: str, step: int | None) -> None:
    """Each of them took minutes, or an error, with the obvious pattern."""
    found = read_progress(line, 0.0)
    assert (found.step if found else None) == step


def test_a_line_without_end_costs_no_more_than_its_beginning() -> None:
    assert read_progress("x" * 10_000_000 + " loss 1.0", 0.0) is None
