"""Embeddings of new tokens that adapters would leave untrained."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from headway.base.errors import Cause, Finding, Remedy
from headway.base.units import plural
from headway.data.examples import tokenizer as tokenizers
from headway.data.survey.store import Store

_MOST_TOKENS = 4_000_000  # of the data that are looked at
_NEAR = 0.01  # of the usual distance from the mean of all rows
_SHOWN = 5


def advise_new_tokens(model: nn.Module, store: Store) -> Finding | None:
    """A warning if the data has tokens whose embeddings are untrained, and stay so.

    New rows of an embedding are all zeros, or the mean of the others with next to no noise
    (`resize_token_embeddings` of transformers). A row that was drawn at random looks like a
    trained one, and is not found.

    Args:
        model: in which something is trainable.
        store: the tokens of the data.
    """
    embedding: Any = model.get_input_embeddings()  # pyright: ignore[reportCallIssue]
    weight = getattr(embedding, "weight", None)
    if any(p.requires_grad for p in embedding.parameters()) or type(weight) is not nn.Parameter:
        return None  # they train, or are shards
    used = torch.from_numpy(_used_ids(store, len(weight))).to(weight.device)
    untrained = used[looks_untrained(weight.detach(), used)].tolist()
    return _finding(untrained, store) if untrained else None


def _used_ids(store: Store, num: int) -> "np.ndarray[Any, np.dtype[np.int64]]":
    """The ids that the data has."""
    return np.flatnonzero(np.bincount(store.ids[:_MOST_TOKENS], minlength=num)[:num])


def looks_untrained(weight_VC: Tensor, used: Tensor) -> Tensor:
    """Which of the used rows are zeros, or the mean of all rows."""
    rows = weight_VC[used].float()
    distances = torch.linalg.vector_norm(rows - weight_VC.float().mean(0), dim=1)
    near_mean = distances < _NEAR * distances.quantile(0.9)  # most rows may be new
    return near_mean | (torch.linalg.vector_norm(rows, dim=1) == 0)


def _finding(untrained: list[int], store: Store) -> Finding:
    words = tokenizers.load(Path(store.folder))
    names = [words.token_of(one) or str(one) for one in untrained[:_SHOWN]]
    more = len(untrained) - len(names)
    shown = ", ".join(names) + (f" and {more} more" if more else "")
    return Finding(
        "warning",
        f"the model cannot learn {plural(len(untrained), 'new token')}: {shown}",
        have="embeddings that were never trained (zeros, or the mean of all others), and adapters "
        "that leave them frozen",
        need="embeddings that are trained too",
        remedies=(Remedy("leave out --lora", "trains all weights, embeddings among them"),),
        cause=Cause.EMBEDDINGS_UNTRAINED,
    )
