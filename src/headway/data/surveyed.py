"""What was found in the sources: plain values, so that the plan can be read without numpy."""

from dataclasses import dataclass, field

from headway.data.records import Kind


@dataclass(frozen=True)
class Lengths:
    """How long the examples are, in tokens."""

    mean: float
    median: float
    p95: float
    max: int


@dataclass(frozen=True)
class Survey:
    """What was found in the sources. Everything the plan knows of the data is here."""

    kind: Kind
    sources: tuple[str, ...]
    records_read: int
    records_rejected: dict[str, int]  # by reason
    records_accepted: int
    bytes: int  # of the sources as read
    characters: int  # of the accepted text
    tokens: int  # of the accepted examples, end tokens included
    trained_tokens: int  # of these, how many are learned
    lengths: Lengths
    vocab_size: int
    max_id: int
    end_id: int  # the token that ends a document or an answer
    fingerprint: str  # sha256 over the content of the sources
    tokenizer: str  # sha256 over the tokenizer
    tokenizer_from: str  # in words: "byte-level", "trained here, 4,096 tokens", a folder
    template: str  # sha256 over the chat template, "" for text
    marked_example: str  # one rendered example with its trained tokens between guillemets
    seconds: float
    template_from: str = ""  # in words: "the tokenizer's own", "ChatML, as the model has none"
    files_skipped: dict[str, int] = field(default_factory=dict[str, int])  # by reason: "binary"
