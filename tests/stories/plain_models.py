"""transformers' own losses and gradients, document by document: without code of Headway."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the usual name
from torch import Tensor


@dataclass(frozen=True)
class Document:
    """Token ids, and which of them are trained."""

    ids: Tensor
    trained: Tensor


def load_plain(folder: Path) -> Any:
    """A model as transformers reads it, in fp32, with the attention of its kind."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def mean_loss(model: Any, documents: Sequence[Document]) -> Tensor:
    """The mean over all trained tokens; each document runs alone."""
    losses: list[Tensor] = []
    for one in documents:
        logits = model(input_ids=one.ids[None], use_cache=False).logits[0]
        of_next = F.cross_entropy(logits[:-1].float(), one.ids[1:], reduction="none")
        losses.append(of_next[one.trained[1:]])
    return torch.cat(losses).mean()


def load_adapted(folder: Path, adapters: Path) -> Any:
    """The same with a folder of adapters, as PEFT reads them."""
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PEFT about transformers
        return PeftModel.from_pretrained(load_plain(folder), str(adapters), is_trainable=True)


def gradients(model: Any, loss: Tensor) -> dict[str, Tensor]:
    """The gradient of every trainable parameter by name; zeros where there is none."""
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    names, parameters = zip(*trained, strict=True)
    found = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    return dict(zip(names, found, strict=True))
