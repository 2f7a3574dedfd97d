"""Model folders made by hand, without torch: a good one, adapters on it, and what may go wrong."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tests.helpers import VOCAB, byte_level, llama

from headway.data.examples.chatml import CHATML

TURN_END, DOCUMENT_END = 2, 0  # ids in the byte-level tokenizer
R = 2


def weights(seed: int = 0, **changes: Any) -> dict[str, np.ndarray[Any, Any]]:
    """The tensors of a Llama as transformers stores them, drawn at random."""
    config = llama(**changes)
    width, inner, heads = config["hidden_size"], config["intermediate_size"], 2
    head = width // heads
    shapes = {"model.embed_tokens.weight": (config["vocab_size"], width)}
    for number in range(config["num_hidden_layers"]):
        layer = f"model.layers.{number}"
        shapes |= {
            f"{layer}.input_layernorm.weight": (width,),
            f"{layer}.mlp.down_proj.weight": (width, inner),
            f"{layer}.mlp.gate_proj.weight": (inner, width),
            f"{layer}.mlp.up_proj.weight": (inner, width),
            f"{layer}.post_attention_layernorm.weight": (width,),
            f"{layer}.self_attn.k_proj.weight": (head, width),
            f"{layer}.self_attn.o_proj.weight": (width, width),
            f"{layer}.self_attn.q_proj.weight": (width, width),
            f"{layer}.self_attn.v_proj.weight": (head, width),
        }
    shapes["model.norm.weight"] = (width,)
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (config["vocab_size"], width)
    draws = np.random.default_rng(seed)
    return {
        name: np.ones(shape, np.float32)
        if "norm" in name
        else draws.normal(0, 0.3, shape).astype(np.float32)
        for name, shape in shapes.items()
    }


def model_folder(folder: Path, *, seed: int = 0, chat: bool = True, **changes: Any) -> Path:
    """A whole model with the bytes as its tokenizer, and a chat template unless it has no chats."""
    folder.mkdir(parents=True)
    ends = [TURN_END, DOCUMENT_END] if chat else DOCUMENT_END
    config = llama(architectures=["LlamaForCausalLM"], dtype="float32", **changes)
    write(folder / "config.json", config | {"eos_token_id": ends})
    write(folder / "generation_config.json", {"eos_token_id": ends, "bos_token_id": 0})
    save_file(weights(seed, **changes), folder / "model.safetensors", {"format": "pt"})
    words = byte_level()
    (words.with_end_token("<|im_end|>").with_template(CHATML) if chat else words).save(folder)
    return folder


def adapter_folder(folder: Path, base: Path, *, seed: int = 1, **changes: Any) -> Path:
    """LoRA of two of a model's layers, as PEFT saves it."""
    folder.mkdir(parents=True)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(base),
        "r": R,
        "lora_alpha": 4,
        "lora_dropout": 0.0,
        "target_modules": ["q_proj", "down_proj"],
        "bias": "none",
        "inference_mode": True,
    }
    write(folder / "adapter_config.json", config | changes)
    save_file(adapters(seed), folder / "adapter_model.safetensors", {"format": "pt"})
    return folder


def adapters(seed: int = 1, *, scale: float = 0.3) -> dict[str, np.ndarray[Any, Any]]:
    """Their tensors; with a scale of 0 B is as it begins."""
    draws = np.random.default_rng(seed)
    found: dict[str, np.ndarray[Any, Any]] = {}
    for number in range(2):
        for name, (out, into) in {
            "self_attn.q_proj": (16, 16),
            "mlp.down_proj": (16, 32),
        }.items():
            layer = f"base_model.model.model.layers.{number}.{name}"
            found[f"{layer}.lora_A.weight"] = draws.normal(0, 0.3, (R, into)).astype(np.float32)
            b = draws.normal(0, 1.0, (out, R)) * scale
            found[f"{layer}.lora_B.weight"] = b.astype(np.float32)
    return found


def write(path: Path, value: object) -> None:
    """A JSON file."""
    path.write_text(json.dumps(value), encoding="utf-8")


def change(path: Path, **changes: Any) -> None:
    """Change an object in a JSON file; None deletes."""
    value = json.loads(path.read_text()) | changes
    write(path, {name: one for name, one in value.items() if one is not None})


def state(folder: Path, *losses: float, step: int | None = None, **fields: Any) -> None:
    """trainer_state.json of a Trainer that logged these losses."""
    history = [
        {"step": number, "epoch": 0.1, "loss": loss, "learning_rate": 1e-4, "grad_norm": 1.0}
        | fields
        for number, loss in enumerate(losses, start=1)
    ]
    steps = len(losses) if step is None else step
    whole = {"global_step": steps, "max_steps": max(steps, 1), "num_train_epochs": 1, "epoch": 1.0}
    write(folder / "trainer_state.json", whole | {"log_history": history})


assert VOCAB == 259, "the shapes above are of this vocabulary"
