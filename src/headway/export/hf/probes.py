"""ExportProbes: what an export and the model that was trained are both asked, and what they answer.

The rows are made from the tokenizer alone, so that no data has to be there any more: a text with
whatever tokenizers get wrong, a conversation through the chat template, and tokens by chance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from headway.base.errors import UsageError
from headway.data.examples.chat import Template
from headway.data.examples.jinja import RenderError
from headway.data.examples.tokenizer import Tokenizer

# Whatever tokenizers get wrong: spaces, digits, accents, capitals, code, emoji, other scripts.
NASTY_TEXT = (
    "Hello  world,\tit's 12345678.90 o'clock!\n\n\n  def f(x):\n\treturn x**2 # ÄÖÜ ßtraße naïve"
    "\r\n日本語のテキスト。中文、 العربية русский 한국어 "
    "\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea e\u0301 "
    "\u00a0\u2003 I'LL we'Ve <tag> a_b-c/d\\e "
)
MESSAGES = (
    {"role": "user", "content": "What is the capital of France?"},
    {"role": "assistant", "content": "Paris."},
    {"role": "user", "content": "And of Italy, in one word?"},
)
_ROW_TOKENS = 48  # at most, of each row
_DRAWN_TOKENS = 24
_SEED = 20261130


@dataclass(frozen=True)
class ExportProbes:
    """What both are asked.

    Attributes:
        rows: token ids, one row for each text.
        chat: the rendered conversation, ready for an answer; None without a chat template.
    """

    rows: tuple[tuple[int, ...], ...]
    chat: str | None


def make_probes(tokenizer: Tokenizer, num_embeddings: int, context: int) -> ExportProbes:
    """The rows for a model.

    Args:
        tokenizer: of the model.
        num_embeddings: ids are smaller.
        context: tokens that the model takes; 0 if its configuration does not say.
    """
    chat = _rendered(tokenizer)
    texts = [NASTY_TEXT, *([chat] if chat else [])]
    rows = [ids.tolist() for ids in tokenizer.encode(texts)]
    most = min(tokenizer.vocab_size, num_embeddings)
    rows.append(np.random.default_rng(_SEED).integers(0, most, _DRAWN_TOKENS).tolist())
    length = max(2, min(_ROW_TOKENS, context or _ROW_TOKENS))
    kept = (tuple(one for one in row if one < num_embeddings)[:length] for row in rows)
    return ExportProbes(tuple(row for row in kept if len(row) > 1), chat)


def _rendered(tokenizer: Tokenizer) -> str | None:
    if tokenizer.chat_template is None:
        return None
    try:
        return Template(tokenizer).render(list(MESSAGES), add_generation_prompt=True)
    except (RenderError, UsageError):
        return None


def logits_of(model: nn.Module, rows: Sequence[Sequence[int]]) -> Tensor:
    """(N, V) fp32 logits behind each token of each row, in order."""
    found: list[Tensor] = []
    plain: Any = model
    with torch.inference_mode():
        for row in rows:
            output = plain(input_ids=torch.tensor([list(row)]), use_cache=False)
            found.append(output.logits[0].float().clone())
    return torch.cat(found)


def loss_of(logits_NV: Tensor, rows: Sequence[Sequence[int]]) -> float:
    """The mean loss of each row's tokens but the first, in nats per token."""
    losses: list[Tensor] = []
    begin = 0
    for row in rows:
        own_TV = logits_NV[begin : begin + len(row)]
        targets = torch.tensor(row[1:])
        losses.append(torch.nn.functional.cross_entropy(own_TV[:-1], targets, reduction="none"))
        begin += len(row)
    return float(torch.cat(losses).mean())
