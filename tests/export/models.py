"""Small model folders to export: random weights that show every mistake, a trained tokenizer."""

from pathlib import Path
from typing import Any

from tests.helpers import causal

from headway.base.pulse import Pulse
from headway.data.examples.chat import Template
from headway.data.examples.chatml import CHATML
from headway.data.examples.tokenizer import TURN_END, Tokenizer, train
from headway.export.request import ExportOptions, ExportRequest
from headway.export.source import ExportSource, open_source

TEXTS = (
    "The mill by the river was built in 1873, and nobody remembers who paid for it.",
    "Every spring the water rises; every autumn someone counts the boards that it took.",
    "Answer in one word. What is the capital of France? Paris. Hello world!",
) * 4
# Shapes as small as llama.cpp computes them, with rows of whole K-quant blocks.
SHAPE = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
    "attention_dropout": 0.0,
}
GEMMA3 = {
    "num_hidden_layers": 7,
    "sliding_window": 24,
    "query_pre_attn_scalar": 64,
    "tie_word_embeddings": True,
    "hidden_activation": "gelu_pytorch_tanh",
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": None},
    "qwen2": {},
    "qwen3": {"head_dim": 128},
    "gemma3_text": GEMMA3,
    "phi3": {"pad_token_id": 0},
}


def trained_tokenizer(*, chat: bool = True) -> Tokenizer:
    """Some hundred tokens, as `headway train` trains them."""
    words = train(TEXTS, 400)
    return words.with_end_token(TURN_END).with_template(CHATML) if chat else words


def model_folder(
    folder: Path,
    model_type: str = "llama",
    *,
    tokenizer: Tokenizer | None = None,
    scale: float = 1.0,
    rows: int = 0,
    **config: Any,
) -> Path:
    """A folder as `save_pretrained` writes it.

    Args:
        folder: to write.
        model_type: of transformers.
        tokenizer: instead of a trained one.
        scale: of the weights.
        rows: of the embedding; 0 for one per token.
        config: more of it.
    """
    import torch

    words = tokenizer or trained_tokenizer()
    shape = SHAPE | ARCHITECTURES[model_type] | config
    shape |= {"vocab_size": rows or words.vocab_size, "eos_token_id": words.end_id}
    shape = {"bos_token_id": words.bos_id, "pad_token_id": None} | shape
    model = causal(model_type, scale=scale, **shape)
    draws = torch.Generator().manual_seed(3)
    for name, weight in model.named_parameters():
        if weight.dim() == 1:  # norms and biases are not all alike
            weight.data += 0.1 * torch.randn(weight.shape, generator=draws)
        elif "embed" not in name and "lm_head" not in name:
            weight.data *= 3.0  # attention that is far from uniform
    model.save_pretrained(folder)
    words.save(folder)
    return folder


def adapters(folder: Path, base: Path, *, size: float = 0.05) -> Path:
    """LoRA adapters that change what their base model computes.

    Args:
        folder: to write.
        base: the model that they belong to.
        size: of their weights.
    """
    import torch

    from headway.model.load import from_folder, with_lora

    model: Any = from_folder(base, trust_remote_code=False)
    every = ("all-linear",)
    adapted: Any = with_lora(model, r=4, alpha=8, dropout=0.0, target_modules=every, seed=1)
    adapted.peft_config["default"].base_model_name_or_path = str(base)
    draws = torch.Generator().manual_seed(4)
    for name, weight in adapted.named_parameters():
        if "lora_" in name:
            weight.data = size * torch.randn(weight.shape, generator=draws)
    adapted.save_pretrained(folder)
    return folder


CHATS = (
    ("What is the capital of France?", "Paris."),
    ("Who paid for it?", "Nobody remembers."),
    ("Was it worth it?", "Certainly."),
)


def chat_loss(model: Any, words: Tokenizer) -> Any:
    """The mean loss of the chats, all of their tokens."""
    import torch

    rows = [
        [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
        for asked, answer in CHATS
    ]
    encoded = [words.encode([Template(words).render(row)])[0].tolist() for row in rows]
    longest = max(map(len, encoded))
    ids_BT = torch.tensor([one + [0] * (longest - len(one)) for one in encoded])
    mask_BT = torch.tensor([[1] * len(one) + [0] * (longest - len(one)) for one in encoded])
    labels_BT = ids_BT.masked_fill(mask_BT == 0, -100)
    return model(input_ids=ids_BT, attention_mask=mask_BT, labels=labels_BT).loss


def fine_tuned(folder: Path, base: Path, *, lora: bool, num_steps: int = 40) -> Path:
    """A model that has learned a few chats, or adapters that have.

    Args:
        folder: to write.
        base: the model that learns.
        lora: adapters learn.
        num_steps: of training.
    """
    import torch

    from headway.data.examples.tokenizer import load
    from headway.model.load import from_folder, with_lora

    words, model = load(base), from_folder(base, trust_remote_code=False)
    learner: Any = model
    if lora:
        every = ("all-linear",)
        learner = with_lora(model, r=8, alpha=16, dropout=0.0, target_modules=every, seed=1)
        learner.peft_config["default"].base_model_name_or_path = str(base)
    learned = [weight for weight in learner.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=1e-2 if lora else 2e-3)
    learner.train()
    for _ in range(num_steps):
        loss = chat_loss(learner, words)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    learner.save_pretrained(folder)
    if not lora:
        words.save(folder)
    return folder


def source_of(folder: Path, scratch: Path, **options: Any) -> ExportSource:
    """What is exported of a folder."""
    given = {"to": "gguf", "name": folder.name} | options
    scratch.mkdir(parents=True, exist_ok=True)
    request = ExportRequest(str(folder), str(scratch / "out"), ExportOptions(**given))
    return open_source(request, scratch, Pulse())
