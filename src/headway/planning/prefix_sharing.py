"""Whether rows that begin alike run that once: how much it saves, and what stands against it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headway.data.batching.packing import arranged, computed
from headway.data.batching.rows import StoreRows
from headway.data.order import RowOrder

LEAST = 0.1  # of a step's tokens; less is not worth the bookkeeping
_ROWS = 4096  # that are looked at
_STEPS = 64
_NOT_OF_LAYERS = ("classifier", "summary")  # dropout of heads that a language model has not
_WINDOWS = ("sliding_window", "window_size", "attention_window", "attention_chunk_size")


@dataclass(frozen=True)
class Saving:
    """What sharing saves, over the steps that were looked at.

    Attributes:
        share: of the input tokens: those that need not run again.
        leaves: of a step, as packing makes them.
    """

    share: float
    leaves: int


def saving(rows: StoreRows, order: RowOrder, leaves: int, micro_batch_tokens: int) -> Saving:
    """Arrange steps as packing will: all of an epoch where it is small, else some of it, evenly."""
    per_epoch = order.steps_per_epoch
    num = min(per_epoch, _STEPS, max(1, _ROWS // order.batch_size))
    inputs = run = most = 0
    for i in range(num):
        numbers = order.rows(1 + i * per_epoch // num)[1] % rows.num_rows  # of a flow: the sample's
        stretches = {int(n): rows.stretches(int(n)) for n in numbers}
        lengths = {n: sum(map(len, parts)) for n, parts in stretches.items()}
        step = arranged(stretches, leaves, micro_batch_tokens, share=True)
        inputs += sum(lengths.values())
        run += sum(computed(f, lengths) for leaf in step for micro in leaf for f in micro)
        most = max(most, len(step))
    return Saving(1 - run / inputs, most)


def against(config: Mapping[str, Any], max_length: int, lora_dropout: float) -> str:
    """Why a row would not be what it is by itself, in words; "" where it would.

    Args:
        config: of the model, transformers' config.json.
        max_length: of the rows.
        lora_dropout: of adapters.
    """
    text = config.get("text_config")
    if isinstance(text, dict):
        config = {**config, **text}
    numbers = {k: v for k, v in config.items() if type(v) in (int, float) and v > 0}
    for name, value in numbers.items():
        if "drop" in name and not name.startswith(_NOT_OF_LAYERS):
            return f"{name} {value:g} draws anew for each row"
    if lora_dropout:
        return f"lora.lora_dropout {lora_dropout:g} draws anew for each row"
    if config.get("use_sliding_window") is False:
        return ""
    shorter = [v for k, v in numbers.items() if k in _WINDOWS and v < max_length]
    return f"layers of the model look back {min(shorter):,} tokens only" if shorter else ""
