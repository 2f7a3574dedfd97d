"""Adapters of several kinds on a small Llama, made by PEFT itself."""

import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
from tests.export.folders import model_folder

from headway.model.load import from_folder

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "every layer": {"target_modules": "all-linear"},
    "rank-stabilized": {"use_rslora": True},
    "ranks of their own": {"rank_pattern": {"q_proj": 4}, "alpha_pattern": {"q_proj": 32}},
    "with a bias of their own": {"target_modules": ["q_proj"], "lora_bias": True},
    "DoRA": {"use_dora": True},
    "on the embedding": {"target_modules": ["q_proj", "embed_tokens"]},
    "on the head": {"target_modules": ["q_proj", "lm_head"]},
    "a head of their own": {"modules_to_save": ["lm_head"]},
    "an embedding of their own": {"modules_to_save": ["embed_tokens"]},
    "new rows": {"trainable_token_indices": [3, 5]},
}
NEEDS_BIAS = ("with a bias of their own",)


def base_folder(folder: Path, *, tied: bool = True, bias: bool = False) -> Path:
    """A whole model; with biases in its attention if asked for."""
    model_folder(folder, tie_word_embeddings=tied)
    if bias:
        model: Any = from_folder(folder, trust_remote_code=False)
        from transformers import AutoModelForCausalLM

        model.config.attention_bias = True
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            AutoModelForCausalLM.from_config(model.config).float().save_pretrained(folder)
    return folder


def adapted(base: Path, folder: Path, **options: Any) -> Path:
    """Adapters that change a model, saved by PEFT; the base model's files are left alone."""
    from peft import LoraConfig, get_peft_model

    given = {"r": 2, "lora_alpha": 8, "target_modules": ["q_proj", "down_proj"]} | options
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about tied embeddings, and those that are saved too
        torch.manual_seed(3)
        plain: Any = from_folder(base, trust_remote_code=False)
        config = LoraConfig(**given, task_type="CAUSAL_LM", init_lora_weights=False)
        model: Any = get_peft_model(plain, config)
        for name, p in model.named_parameters():
            if p.requires_grad and "lora_A" not in name and "lora_B" not in name:
                p.data.add_(torch.randn_like(p) * 0.05)
        model.peft_config["default"].base_model_name_or_path = str(base)
        model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(base / name, folder)
    return folder


def rows() -> torch.Tensor:
    """(2, 24) ids, those of new rows among them."""
    ids_BL = torch.randint(0, 259, (2, 24), generator=torch.Generator().manual_seed(1))
    ids_BL[0, :2] = torch.tensor([3, 5])
    return ids_BL


def logits(model: Any) -> torch.Tensor:
    """(2, 24, V) of a model."""
    with torch.no_grad():
        return model.eval()(input_ids=rows()).logits
