"""Records -> examples, whatever their kind: one tokenizer, one template, one way."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from headway.base.files import hash_bytes
from headway.base.version import __version__
from headway.data.examples import tokenizer as tokenizers
from headway.data.examples.chat import CHATML, Template, chatml_for
from headway.data.examples.examples import Example, chat_examples, text_examples, token_examples
from headway.data.examples.tokenizer import TURN_END, Tokenizer
from headway.data.formats.records import DataKind, Record, Rejected


@dataclass(frozen=True)
class ExampleOptions:
    """What decides, beside their content, how sources become examples.

    Attributes:
        tokenizer: a folder or tokenizer.json; None: learn one from the data.
        vocab_size: of a tokenizer that is learned.
        template: a chat template instead of the tokenizer's own.
        assistant_only: conversations: only the answers are trained.
        drop_duplicates: of several identical records only the first is trained.
        skip_corrupt: compressed files that are damaged are passed over.
    """

    tokenizer: Path | None
    vocab_size: int
    template: str | None
    assistant_only: bool
    drop_duplicates: bool = False
    skip_corrupt: bool = False

    def key(self, *content: object) -> str:
        """sha256 over all of this, over the code's version, and over the content."""
        words = tokenizers.fingerprint(self.tokenizer) if self.tokenizer else self.vocab_size
        chat = (self.template or "", CHATML, self.assistant_only)
        rest = (self.drop_duplicates, self.skip_corrupt)
        return hash_bytes(msgspec.json.encode((__version__, words, chat, rest, content)))


class Maker:
    """Makes examples of records of one kind.

    Args:
        ask: the template, and what is trained of a conversation.
        tokenizer: for a conversation it may get a template, and the end of a turn as its end.
        kind: of the records.
        tick: told how many tokens are new, while it goes on.
        now: the clock that templates see.

    Attributes:
        tokenizer: as it is saved beside the examples.
        template_from: in words, "" for what needs none.
    """

    def __init__(
        self,
        ask: ExampleOptions,
        tokenizer: Tokenizer,
        kind: DataKind,
        tick: Callable[[int], None],
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        self.ask = ask
        self.kind: DataKind = kind
        self.template_from = ""
        self._template: Template | None = None
        self._tick = tick
        if kind == "conversations":
            own = tokenizer.chat_template
            if ask.tokenizer is None:
                tokenizer = tokenizer.ending_in(TURN_END)
            self.template_from = "as given" if ask.template else "its own" if own else "ChatML"
            tokenizer = tokenizer.with_template(ask.template or own or chatml_for(tokenizer))
            self._template = Template(tokenizer, now=now)
        self.tokenizer = tokenizer

    def examples(self, records: Sequence[Record]) -> Sequence[Example | Rejected]:
        """One example of each record, or why there is none."""
        if self._template:
            return chat_examples(
                records,
                self.tokenizer,
                self._template,
                assistant_only=self.ask.assistant_only,
                tick=self._tick,
            )
        if self.kind == "tokens":
            return token_examples(records, self.tokenizer.vocab_size, self._tick)
        return text_examples(records, self.tokenizer, self._tick)
