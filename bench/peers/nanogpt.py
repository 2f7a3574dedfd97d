"""nanoGPT's model in its own kind of loop, from a clone of its repository."""

import sys
from contextlib import nullcontext
from pathlib import Path

import gpt_loop
import torch

CLONE = Path(__file__).resolve().parents[2] / "build" / "peers" / "nanoGPT"


def main() -> None:
    """A GPT-2 as wide and deep as the plan's model; train, write what happened.

    On a CPU its train.py computes in float32; `--bf16` gives it autocast, and the fused AdamW that
    its own `configure_optimizers` takes on a GPU.
    """
    sys.path.insert(0, str(CLONE))
    from model import GPT, GPTConfig

    asked = gpt_loop.arguments(__doc__ or "")
    plan = gpt_loop.load_plan(asked.folder)
    shape, learning = plan["model"]["config"], plan["learning"]
    model = GPT(
        GPTConfig(
            block_size=plan["data"]["max_length"],
            vocab_size=shape["vocab_size"],
            n_layer=shape["num_hidden_layers"],
            n_head=shape["num_attention_heads"],
            n_embd=shape["hidden_size"],
            dropout=0.0,
            bias=False,
        )
    )
    optimizer = model.configure_optimizers(
        learning["weight_decay"],
        learning["peak"],
        (learning["beta1"], learning["beta2"]),
        "cuda" if asked.bf16 else "cpu",
    )
    parameters = list(model.parameters())
    model = torch.compile(model) if asked.compile else model
    context = torch.autocast("cpu", torch.bfloat16) if asked.bf16 else nullcontext()

    def loss_of(ids_BT: torch.Tensor, targets_BT: torch.Tensor) -> torch.Tensor:
        with context:
            _, loss = model(ids_BT, targets_BT)
        return loss

    gpt_loop.train(plan, asked, optimizer, parameters, loss_of)


if __name__ == "__main__":
    main()
