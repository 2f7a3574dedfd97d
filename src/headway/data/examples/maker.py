"""Example maker: records of any kind to token ids and training flags."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from headway.base.files import hash_bytes
from headway.base.version import __version__
from headway.data.examples import tokenizer as tokenizers
from headway.data.examples.chat import Template
from headway.data.examples.chatml import CHATML, chatml_for
from headway.data.examples.examples import (
    AddSpecialTokens,
    Example,
    chat_examples,
    text_examples,
    token_examples,
)
from headway.data.examples.tokenizer import TURN_END, Tokenizer
from headway.data.formats.records import DataKind, Record, Rejected


@dataclass(frozen=True)
class ExampleOptions:
    """Settings that shape how sources become examples.

    Attributes:
        tokenizer: a folder or tokenizer.json; None: train one on the data.
        vocab_size: for a tokenizer trained on the data.
        template: a chat template that replaces the tokenizer's own.
        assistant_only: train only the answers of conversations.
        drop_duplicates: keep only the first of several identical records.
        skip_corrupt: skip the damaged rest of a compressed file.
        preferred_only: train the preferred answers of preference data.
        keep_empty_answers: train answers without a word instead of rejecting the conversation.
        add_special_tokens: whether a text gets BOS and the end token.
        day: that chat templates are told, ISO 8601; "": today.
    """

    tokenizer: Path | None
    vocab_size: int
    template: str | None
    assistant_only: bool
    drop_duplicates: bool = False
    skip_corrupt: bool = False
    preferred_only: bool = False
    keep_empty_answers: bool = False
    add_special_tokens: AddSpecialTokens = "auto"
    day: str = ""

    def key(self, *content: object) -> str:
        """sha256 over these options but for the day, Headway's version and the content."""
        vocabulary = tokenizers.fingerprint(self.tokenizer) if self.tokenizer else self.vocab_size
        chat = (self.template or "", CHATML, self.assistant_only)
        filters = (self.drop_duplicates, self.skip_corrupt, self.preferred_only)
        filters += (self.keep_empty_answers, self.add_special_tokens)
        return hash_bytes(msgspec.json.encode((__version__, vocabulary, chat, filters, content)))


class ExampleMaker:
    """Makes examples from records of one kind.

    Args:
        options: the chat template, and which tokens of a conversation are trained.
        tokenizer: for conversations it may get a template, and the end of a turn as end token.
        kind: of the records.
        on_tokens: called with the number of new tokens as they are made.

    Attributes:
        tokenizer: as saved with the examples.
        template_from: where the template comes from, as text for people; "" if none is needed.
    """

    def __init__(
        self,
        options: ExampleOptions,
        tokenizer: Tokenizer,
        kind: DataKind,
        on_tokens: Callable[[int], None],
    ) -> None:
        self.options = options
        self.kind: DataKind = kind
        self.template_from = ""
        self._template: Template | None = None
        self._on_tokens = on_tokens
        if kind == "conversations":
            own = tokenizer.chat_template
            if options.tokenizer is None:
                tokenizer = tokenizer.with_end_token(TURN_END)
            self.template_from = "as given" if options.template else "its own" if own else "ChatML"
            tokenizer = tokenizer.with_template(options.template or own or chatml_for(tokenizer))
            day = datetime.fromisoformat(options.day) if options.day else datetime.now()
            self._template = Template(tokenizer, now=lambda: day)
        self.tokenizer = tokenizer

    @property
    def uses_date(self) -> bool:
        """Whether the chat template asks for the date."""
        return self._template is not None and self._template.uses_date

    def make(self, records: Sequence[Record]) -> Sequence[Example | Rejected]:
        """One example per record, or the reason there is none."""
        if self._template:
            return chat_examples(
                records,
                self.tokenizer,
                self._template,
                assistant_only=self.options.assistant_only,
                keep_empty_answers=self.options.keep_empty_answers,
                on_tokens=self._on_tokens,
            )
        if self.kind == "tokens":
            return token_examples(records, self.tokenizer.vocab_size, self._on_tokens)
        return text_examples(
            records, self.tokenizer, self._on_tokens, self.options.add_special_tokens
        )
