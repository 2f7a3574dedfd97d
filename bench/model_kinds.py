"""Losses of many kinds of models, next to transformers' own.

Each kind is built from its configuration with two small layers and random weights, saved, read as
Headway reads any folder, and computes the loss of a few rows: packed or one at a time, as the trial
before step 1 decides. transformers computes the same rows one by one, alone,
and torch's cross-entropy is the mean over every next token. Nothing is downloaded.

    python bench/model_kinds.py                all kinds; results/DATE-model-kinds.md and .json
    python bench/model_kinds.py llama gemma3   some; prints, writes nothing
"""

import argparse
import json
import tempfile
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the usual name
import transformers
from torch import Tensor, nn

from headway.base.documents import DocumentGroup
from headway.base.errors import Refusal
from headway.base.pulse import Pulse
from headway.base.version import __version__
from headway.config.settings import Settings
from headway.data.batching.batches import MicroTensors
from headway.data.examples.tokenizer import byte_level
from headway.model.forward import Forward
from headway.model.load import from_folder
from headway.model.sizes import lora_parameters, shape_of
from headway.planning.model_source import find_model_source
from headway.training.trials.probes import try_packing

RESULTS = Path(__file__).parent / "results"
VOCAB, LENGTHS = 259, (9, 17, 24, 40)
SAME = 1e-4  # relative difference of two losses
SCALE = 3.0  # of the random weights: where a mistake in the attention shows

# Sizes by the names that configurations give them; a kind gets those that it has.
_SIZES: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "dim", "embedding_size"), 32),
    **dict.fromkeys(("word_embed_proj_dim", "embed_dim"), 32),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size"), 64),
    **dict.fromkeys(("decoder_ffn_dim", "encoder_ffn_dim", "moe_intermediate_size"), 64),
    **dict.fromkeys(("shared_expert_intermediate_size", "expert_ffn_hidden_size"), 64),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "num_layers", "n_layers"), 2),
    **dict.fromkeys(("decoder_layers", "encoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "num_heads", "n_heads"), 4),
    **dict.fromkeys(("decoder_attention_heads", "encoder_attention_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads"), 2),
    **dict.fromkeys(("head_dim", "attention_head_dim", "kv_channels", "v_head_dim"), 8),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len"), 256),
    **dict.fromkeys(("num_local_experts", "num_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk", "moe_k"), 2),
    **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), 1),
    "vocab_size": VOCAB,
    "rotary_dim": 8,
    "sliding_window": 12,
}
_MLA = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8}

# Every kind, and what it needs besides. Chosen for their mechanisms: dense and mixtures of experts,
# learned, rotary and linear positions, windows, caps, sinks, state along the row.
_PLAIN = """
    afmoe apertus arcee aria_text biogpt bitnet bloom codegen cohere cohere2 cohere2_moe ctrl cwm
    deepseek_v4 diffllama doge ernie4_5 ernie4_5_moe exaone4 exaone_moe falcon flex_olmo
    gemma gemma2 glm glm4 glm4_moe gpt2 gpt_bigcode gpt_neox
    gpt_neox_japanese gpt_oss gptj granite granitemoe granitemoeshared helium jamba jetmoe
    llama llama4_text mamba minimax ministral3 mistral mixtral modernbert-decoder mpt nanochat
    olmo olmo2 olmo3 olmoe openai-gpt opt persimmon phi phi3 phimoe qwen2 qwen2_moe
    qwen3 qwen3_moe recurrent_gemma rwkv seed_oss solar_open
    stablelm starcoder2 vaultgemma xglm
    bart blenderbot marian pegasus trocr xlstm
    bert electra roberta camembert xlnet cpmant
    """
_HEADS = {"head_dim": 8, "num_key_value_heads": 2}
_LATENT = {**_MLA, "head_dim": 8, "num_key_value_heads": 4, "v_head_dim": 8}
_STATE = {
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_d_state": 8,
    "mamba_chunk_size": 16,
}
_DELTA = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
_EXPERTS = {"n_group": 1, "topk_group": 1, "first_k_dense_replace": 1}
KINDS: Mapping[str, Mapping[str, Any]] = {kind: {} for kind in _PLAIN.split()} | {
    "bamba": {**_STATE, "attn_layer_indices": [1]},
    "falcon_h1": {**_STATE, "mamba_d_ssm": 64},
    "gemma4_text": {"vocab_size_per_layer_input": VOCAB, "hidden_size_per_layer_input": 8},
    "deepseek_v2": {**_LATENT, **_EXPERTS, "num_experts_per_tok": 2, "topk_method": "greedy"},
    "deepseek_v3": {**_LATENT, **_EXPERTS},
    "glm4_moe_lite": {**_LATENT, **_EXPERTS},
    "gemma3_text": {"layer_types": ["sliding_attention", "full_attention"]},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "smollm3": {"no_rope_layers": [1, 0]},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 12},
    "granitemoehybrid": {**_STATE, "layer_types": ["mamba", "attention"]},
    "hunyuan_v1_dense": _HEADS,
    "hunyuan_v1_moe": _HEADS,
    "longcat_flash": {**_LATENT, "num_layers": 1},
    "mamba2": {
        "num_heads": 8,
        "head_dim": 8,
        "state_size": 8,
        "n_groups": 1,
        "expand": 2,
        "chunk_size": 16,
    },
    "minicpm3": _LATENT,
    "ministral": _HEADS,
    "nemotron": _HEADS,
    "nemotron_h": {
        "mamba_num_heads": 8,
        "mamba_head_dim": 8,
        "ssm_state_size": 8,
        "n_groups": 1,
        "chunk_size": 16,
    },
    "qwen3_5_text": _DELTA,
    "qwen3_next": _DELTA,
    "youtu": _LATENT,
    "zamba2": {"layers_block_type": ["mamba", "hybrid"], "mamba_ngroups": 1},
}


@dataclass(frozen=True)
class Outcome:
    """What became of one kind of model."""

    kind: str
    result: Literal["equal", "refused", "different", "failed"]
    runs: Literal["", "packed", "one at a time"] = ""
    ours: float = float("nan")
    theirs: float = float("nan")
    relative: float = float("nan")
    why: str = ""


def compare(kind: str, **changes: Any) -> Outcome:
    """The loss of a small random model of this kind, by Headway and by transformers alone."""
    rows = some_rows()
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(name)
        theirs = _save(folder, kind, changes, rows)
        try:
            source = find_model_source(Settings(model=str(folder)), 0, Pulse())
            lora_parameters(shape_of(source.initial.config), 8)
            forward = Forward(from_folder(folder, trust_remote_code=False))
            micro = packed(rows)
            trial = try_packing(forward, micro)
        except Refusal as refusal:
            return Outcome(kind, "refused", theirs=theirs, why=refusal.what)
        forward.model.eval()
        with torch.no_grad():
            ours = float(forward.loss(micro, len(micro.targets_M)))
        relative = abs(ours - theirs) / abs(theirs)
        return Outcome(
            kind,
            "equal" if relative <= SAME else "different",
            "one at a time" if trial.leaks else "packed",
            ours,
            theirs,
            relative,
            trial.why,
        )


def some_rows() -> list[Tensor]:
    """Token ids of a few rows of different lengths; the first tokens are not special ones."""
    draws = torch.Generator().manual_seed(0)
    return [torch.randint(3, VOCAB, (length,), generator=draws) for length in LENGTHS]


def packed(rows: Sequence[Tensor]) -> MicroTensors:
    """The rows as one micro-batch, with every token but the first of each row as a target."""
    ends = np.cumsum([len(row) for row in rows])
    at = [t for row, end in zip(rows, ends, strict=True) for t in range(end - len(row), end - 1)]
    ids_N = torch.cat(list(rows))
    at_M = torch.tensor(at)
    return MicroTensors(
        rows_R=np.arange(len(rows)),
        ids_N=ids_N,
        positions_N=torch.cat([torch.arange(len(row)) for row in rows]),
        trained_at_M=at_M,
        targets_M=ids_N[at_M + 1],
        documents=tuple(DocumentGroup(len(row)) for row in rows),
        host_trained_at_M=at_M.numpy(),
    )


def _save(folder: Path, kind: str, changes: Mapping[str, Any], rows: Sequence[Tensor]) -> float:
    """Save a random model of this kind; its mean loss on these rows, by transformers alone."""
    config = tiny_config(kind, changes)
    torch.manual_seed(1)
    model: Any = transformers.AutoModelForCausalLM.from_config(config).float().eval()
    with torch.no_grad():
        for parameter in cast("nn.Module", model).parameters():
            if parameter.ndim >= 2:
                parameter.mul_(SCALE)
        losses = [
            F.cross_entropy(model(input_ids=row[None], use_cache=False).logits[0, :-1], row[1:])
            for row in rows
        ]
    model.save_pretrained(folder)
    byte_level().save(folder)
    targets = [len(row) - 1 for row in rows]
    return sum(float(x) * n for x, n in zip(losses, targets, strict=True)) / sum(targets)


def tiny_config(kind: str, changes: Mapping[str, Any]) -> Any:
    """The kind's configuration with two small layers."""
    plain = transformers.AutoConfig.for_model(kind).to_dict()
    sizes = {name: value for name, value in _SIZES.items() if plain.get(name) is not None}
    return transformers.AutoConfig.for_model(kind, **{**sizes, **changes})


def run(kind: str, changes: Mapping[str, Any]) -> Outcome:
    """Compare one kind; whatever is raised is its outcome."""
    try:
        return compare(kind, **changes)
    except Exception as error:  # a traceback is what is looked for
        first = str(error).strip().splitlines()
        return Outcome(kind, "failed", why=f"{type(error).__name__}: {first[0] if first else ''}")


def page(outcomes: Sequence[Outcome]) -> list[str]:
    """The table of a results page."""
    lines = ["| kind | result | runs | transformers | Headway | relative difference | |"]
    lines.append("|---|---|---|--:|--:|--:|---|")
    for one in outcomes:
        numbers = f"{one.theirs:.6f} | {one.ours:.6f} | {one.relative:.1e}".replace("nan", "")
        lines.append(f"| {one.kind} | {one.result} | {one.runs} | {numbers} | {one.why} |")
    return lines


def main() -> int:
    """Compare, print, and write the results of a whole run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*")
    asked = parser.parse_args().kinds
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    outcomes: list[Outcome] = []
    for kind in asked or sorted(KINDS):
        outcomes.append(run(kind, KINDS.get(kind, {})))
        print(*page(outcomes[-1:])[2:], flush=True)
    if not asked:
        write(outcomes, RESULTS / f"{datetime.now(UTC):%Y-%m-%d}-model-kinds")
    return int(any(one.result in ("different", "failed") for one in outcomes))


def write(outcomes: Sequence[Outcome], path: Path) -> None:
    """Write the results as a page and as JSON."""
    versions = {"headway": __version__, "torch": str(torch.__version__)}
    versions["transformers"] = transformers.__version__
    counts = Counter(one.result for one in outcomes)
    title = [
        "# Losses of many kinds of models",
        "",
        f"{len(outcomes)} kinds, two layers each, random weights times {SCALE:g}, float32: "
        f"{', '.join(f'{num} {result}' for result, num in counts.most_common())}. Equal is a "
        f"relative difference of at most {SAME:g}; refused are those whose tokens see later ones.",
        f"`python bench/model_kinds.py`, {', '.join(' '.join(one) for one in versions.items())}.",
        "",
    ]
    path.with_suffix(".md").write_text("\n".join([*title, *page(outcomes)]) + "\n")
    rows = [{k: None if v != v else v for k, v in asdict(one).items()} for one in outcomes]
    text = json.dumps({"versions": versions, "kinds": rows}, indent=1)
    path.with_suffix(".json").write_text(text + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
