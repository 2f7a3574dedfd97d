"""A guarded run is named for what it runs."""

import shlex

import pytest

from headway.guard.command_name import command_name


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("python train.py --lr 1", "train"),
        ("/usr/bin/python3 -u scripts/sft.v2.py", "sft"),
        ("torchrun --nproc-per-node 2 train_gpt.py", "train_gpt"),
        ("accelerate launch --num_processes 2 run_clm.py", "run_clm"),
        ("python -m torch.distributed.run --nproc-per-node 2 a.py", "run"),
        ("python -m pkg.finetune", "finetune"),
        ("axolotl train config.yml", "axolotl"),
        ("llamafactory-cli train x.yaml", "llamafactory-cli"),
        ("jupyter nbconvert --execute my.notebook.ipynb", "my"),
        ("bash ./go.sh", "go"),
        ("./a b", "a"),
        ("'my tool'", "my-tool"),
    ],
)
def test_name(command: str, name: str) -> None:
    assert command_name(shlex.split(command)) == name
