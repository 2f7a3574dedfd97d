"""Survey result: what was found in the sources, as plain values without numpy."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from headway.data.formats.records import DataKind


@dataclass(frozen=True)
class Lengths:
    """Example lengths in tokens."""

    mean: float
    median: float
    p95: float
    max: int


_SHOWN_NAMES = 5


@dataclass(frozen=True)
class PassedOver:
    """What is not read for one reason.

    Attributes:
        reason: why.
        num: files, folders or parts of files.
        names: the first of them.
    """

    reason: str
    num: int
    names: tuple[str, ...]


def by_reason(passed: Iterable[tuple[str, str]]) -> tuple[PassedOver, ...]:
    """What is not read, with one entry for each reason.

    Args:
        passed: names and reasons.
    """
    names: dict[str, list[str]] = {}
    for name, reason in passed:
        names.setdefault(reason, []).append(name)
    return tuple(PassedOver(r, len(all_), tuple(all_[:_SHOWN_NAMES])) for r, all_ in names.items())


@dataclass(frozen=True)
class SurveySample:
    """The sample that was read of sources too large to read completely.

    Attributes:
        bytes: stored bytes of the sample.
        whole: stored bytes of the sources; 0 if unknown.
        parts: evenly spaced parts that the sample consists of.
        error: relative error of the token count: two standard errors of the ratio of tokens to
            bytes (Cochran 1977, "Sampling Techniques", section 6.4).
    """

    bytes: int
    whole: int
    parts: int
    error: float

    @property
    def scale(self) -> float | None:
        """Size of the sources relative to the sample; None if unknown."""
        return self.whole / self.bytes if self.whole else None


@dataclass(frozen=True)
class Survey:
    """What was found in the sources, or in a sample of them.

    Everything that a plan knows about the data comes from here.
    """

    kind: DataKind
    sources: tuple[str, ...]
    records_read: int
    records_rejected: dict[str, int]  # by reason
    records_accepted: int
    bytes: int  # stored bytes that were read
    characters: int  # of the accepted text
    tokens: int  # of the accepted examples, including end tokens
    trained_tokens: int  # how many of `tokens` are trained
    lengths: Lengths
    vocab_size: int
    max_id: int
    end_id: int  # the token that ends a document or an answer
    fingerprint: str  # sha256 over the content of the sources
    tokenizer: str  # sha256 over the tokenizer
    tokenizer_from: str  # "byte-level", "trained here, 4,096 tokens", or a folder
    template: str  # sha256 over the chat template; "" for text
    marked_example: str  # one example as text, trained tokens between guillemets
    seconds: float
    template_from: str = ""  # "as given", "its own" or "ChatML"; "" for text
    passed_over: tuple[PassedOver, ...] = ()  # files and parts of files that were skipped
    duplicates: int = 0  # records with the same content as an earlier one
    shapes: dict[str, int] = field(default_factory=dict[str, int])  # recognized formats
    notes: dict[str, int] = field(default_factory=dict[str, int])  # number of each
    contents: dict[str, str] = field(default_factory=dict[str, str])  # sha256 by source
    template_day: str = ""  # that the template was told, ISO 8601; "" if it does not ask
    end_ids: tuple[int, ...] = ()  # all tokens that end what is trained
    begin_id: int | None = None  # the first token of the first example
    examples: str = ""  # sha256 over the examples: token ids, and which are trained
    sampled: SurveySample | None = None  # None: the sources were read completely
