"""PyTorch's side of a comparison: log-probabilities of a model as it was trained."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from headway.data.examples.chat import Template
from headway.data.examples.jinja import RenderError
from headway.data.examples.tokenizer import Tokenizer
from headway.export.verify.llama_cpp import Message


class Reference:
    """A model as it was trained, with its tokenizer.

    Args:
        model: of transformers, in fp32 and eval mode.
        tokenizer: its own.
        begins: llama.cpp puts the bos token before a text and before a chat.

    Attributes:
        model, tokenizer: as given.
    """

    def __init__(self, model: nn.Module, tokenizer: Tokenizer, *, begins: bool) -> None:
        self.model, self.tokenizer = model, tokenizer
        self._bos = tokenizer.bos_id if begins else None
        self._template = Template(tokenizer) if tokenizer.chat_template is not None else None

    def merged(self) -> "Reference":
        """The model with its adapters merged in fp32, instead of this one: they share weights."""
        model: Any = self.model
        if hasattr(model, "merge_and_unload"):
            model = model.merge_and_unload(safe_merge=True)
        return Reference(model, self.tokenizer, begins=self._bos is not None)

    def tokens(self, text: str) -> list[int]:
        """The ids of a text, without anything before it."""
        return self.tokenizer.encode([text])[0].tolist()

    def text_ids(self, text: str) -> list[int]:
        """The ids of a text, beginning as the model's texts begin."""
        ids = self.tokens(text)
        return ids if self._bos is None else [self._bos, *ids]

    def render(self, messages: Sequence[Message]) -> str | None:
        """A conversation ready for an answer; None if the template does not take it."""
        if self._template is None:
            return None
        try:
            return self._template.render(messages, add_generation_prompt=True)
        except RenderError:
            return None

    def without_bos(self, rendered: str) -> str:
        """A rendered conversation without the bos token that llama.cpp puts there itself."""
        return rendered if self._bos is None else rendered.removeprefix(self._bos_text)

    def chat_ids(self, rendered: str) -> list[int]:
        """The ids of a rendered conversation, as they were trained."""
        return self.tokens(rendered)

    @property
    def _bos_text(self) -> str:
        return self.tokenizer.token_of(self._bos) or "" if self._bos is not None else ""

    def log_probabilities(self, ids: Sequence[int], begin: int) -> Tensor:
        """(T, V) of what follows each token from `begin` on.

        Args:
            ids: of a text.
            begin: position of the first token whose successor counts.
        """
        model: Any = self.model
        with torch.no_grad():
            logits_TV = model(torch.tensor([list(ids)])).logits[0, begin:].float()
            return torch.log_softmax(logits_TV, dim=-1)
