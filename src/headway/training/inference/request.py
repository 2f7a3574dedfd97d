"""Inference request and result, as they travel between processes."""

from dataclasses import dataclass
from typing import Literal

from headway.base.pulse import Phase

READY = Phase.ANSWERING  # the model is loaded
SCREEN_IS_FREE = "screen-is-free"  # beside the question: the line that showed the wait is erased


@dataclass(frozen=True)
class InferenceRequest:
    """What to generate or evaluate, with which model."""

    kind: Literal["generate", "chat", "eval", "ask"]
    checkpoint: str  # a folder; for questions a GGUF file too
    prompt: str = ""
    questions: tuple[str, ...] = ()  # each begins a conversation of its own
    data: tuple[str, ...] = ()
    max_length: int = 0  # 0: the run's
    num_tokens: int = 256
    temperature: float = 0.8
    top_k: int = 50
    seed: int = 0
    threads: int = 0
    trust_remote_code: bool = False
    base: str = ""  # where a person says that the base model of the adapters is
    preferred_only: bool = False
    keep_empty_answers: bool = False
    add_special_tokens: Literal["auto", "always", "never"] = "auto"
    max_rejected: float = 0.05
    begin_id: int | None = None  # the first token of what the model was trained on


@dataclass(frozen=True)
class Evaluation:
    """The loss of a model on data."""

    loss: float  # nats per trained token
    error: float  # standard error of the loss
    perplexity: float
    bits_per_byte: float | None  # of text only
    rows: int
    tokens: int


@dataclass(frozen=True)
class InferenceResult:
    """The result of a request: an evaluation, or answers; nothing more for text."""

    evaluation: Evaluation | None = None
    answers: tuple[str, ...] = ()
