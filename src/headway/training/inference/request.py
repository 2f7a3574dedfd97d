"""Inference request and result, as they travel between processes."""

from dataclasses import dataclass
from typing import Literal

from headway.base.pulse import Phase
from headway.runs.receipt import Measured

READY = Phase.ANSWERING  # the model is loaded
SCREEN_IS_FREE = "screen-is-free"  # next to the question: the line that showed the wait is erased


@dataclass(frozen=True)
class InferenceRequest:
    """What to generate or evaluate, with which model."""

    kind: Literal["generate", "chat", "eval", "ask", "recall"]
    checkpoint: str  # a folder; for questions a GGUF file too
    prompt: str = ""
    questions: tuple[str, ...] = ()  # each begins a conversation of its own
    remembers: bool = True  # of a chat: the model is told what was said before
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
    runs: tuple[str, ...] = ()  # folders of runs, whose kept rows are measured


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
class Recalled:
    """The loss of a model on the rows that are kept of an earlier run's data.

    Attributes:
        loss: None if it could not be measured.
        are_held_out: these rows were never trained; else they are some of the first step.
        problem: why it was not measured.
    """

    loss: Measured | None
    are_held_out: bool = False
    problem: str = ""


@dataclass(frozen=True)
class InferenceResult:
    """The result of a request: an evaluation, answers, or losses; nothing more for text."""

    evaluation: Evaluation | None = None
    answers: tuple[str, ...] = ()
    recalled: tuple[Recalled, ...] = ()  # of each run
