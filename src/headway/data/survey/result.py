"""What was found in the sources: plain values, so that the plan can be read without numpy."""

from dataclasses import dataclass, field

from headway.data.formats.records import DataKind


@dataclass(frozen=True)
class Lengths:
    """How long the examples are, in tokens."""

    mean: float
    median: float
    p95: float
    max: int


@dataclass(frozen=True)
class Sampled:
    """How much of the sources was read, where that is not all of them.

    Attributes:
        bytes: of the sample, as stored.
        whole: of the sources, as stored; 0 where nobody knows.
        parts: stretches that the sample is made of, spread evenly.
        error: of the number of tokens, as a share: two standard errors of the ratio of tokens to
            bytes (Cochran 1977, "Sampling Techniques", section 6.4).
    """

    bytes: int
    whole: int
    parts: int
    error: float

    @property
    def times(self) -> float | None:
        """How many samples there are in the whole; None where nobody knows."""
        return self.whole / self.bytes if self.whole else None


@dataclass(frozen=True)
class Survey:
    """What was found in the sources, or in the sample of them that was read.

    Everything the plan knows of the data is here.
    """

    kind: DataKind
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
    duplicates: int = 0  # records that say what an earlier one said
    shapes: dict[str, int] = field(default_factory=dict[str, int])  # what rows were taken for
    notes: dict[str, int] = field(default_factory=dict[str, int])  # of accepted examples, how often
    contents: dict[str, str] = field(default_factory=dict[str, str])  # sha256 by source
    sampled: Sampled | None = None  # None: all of the sources was read
