"""What can be asked of a model, and the answers that are numbers."""

from dataclasses import dataclass
from typing import Literal

from headway.base.errors import RefusalMessage
from headway.base.pulse import Phase

READY = Phase.ANSWERING  # the answer is on its way


@dataclass(frozen=True)
class InferenceRequest:
    """What is asked of which model."""

    kind: Literal["generate", "chat", "eval"]
    checkpoint: str
    answer: str  # a file for the `InferenceResult`
    prompt: str = ""
    data: tuple[str, ...] = ()
    max_length: int = 0  # 0: as the run had it
    num_tokens: int = 256
    temperature: float = 0.8
    top_k: int = 50
    seed: int = 0
    threads: int = 0
    trust_remote_code: bool = False


@dataclass(frozen=True)
class Evaluation:
    """The loss of a model on data it is not trained on here."""

    loss: float  # nats per trained token
    error: float  # standard error of it
    perplexity: float
    bits_per_byte: float | None  # of text: what is trained is all of it
    rows: int
    tokens: int


@dataclass(frozen=True)
class InferenceResult:
    """How it went."""

    evaluation: Evaluation | None = None
    refused: RefusalMessage | None = None
