"""LitGPT's model and loss with Lightning Fabric, put together as its pretraining does."""

import gpt_loop
import lightning
import torch
from litgpt import GPT, Config
from litgpt.pretrain import initialize_weights
from litgpt.utils import chunked_cross_entropy


def main() -> None:
    """The plan's shape as a LitGPT config; train, write what happened."""
    asked = gpt_loop.arguments(__doc__ or "")
    plan = gpt_loop.load_plan(asked.folder)
    shape, learning = plan["model"]["config"], plan["learning"]
    fabric = lightning.Fabric(
        accelerator="cpu", devices=1, precision="bf16-mixed" if asked.bf16 else "32-true"
    )
    model = GPT(
        Config(
            name="bench",
            block_size=plan["data"]["max_length"],
            padded_vocab_size=shape["vocab_size"],
            n_layer=shape["num_hidden_layers"],
            n_head=shape["num_attention_heads"],
            n_embd=shape["hidden_size"],
            intermediate_size=shape["intermediate_size"],
            rotary_percentage=1.0,
            parallel_residual=False,
            bias=False,
            norm_class_name="RMSNorm",
            norm_eps=shape["rms_norm_eps"],
            mlp_class_name="LLaMAMLP",
        )
    )
    initialize_weights(fabric, model, n_layer=model.config.n_layer, n_embd=model.config.n_embd)
    model.transformer.wte.weight = model.lm_head.weight
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=learning["peak"],
        betas=(learning["beta1"], learning["beta2"]),
        eps=learning["epsilon"],
        weight_decay=learning["weight_decay"],
        fused=True,
    )
    parameters = list(model.parameters())
    ready = fabric.setup(torch.compile(model) if asked.compile else model)
    optimizer = fabric.setup_optimizers(optimizer)

    def loss_of(ids_BT: torch.Tensor, targets_BT: torch.Tensor) -> torch.Tensor:
        return chunked_cross_entropy(ready(ids_BT), targets_BT)

    gpt_loop.train(plan, asked, optimizer, parameters, loss_of, fabric.backward)


if __name__ == "__main__":
    main()
