"""Prefix sharing: estimated savings, and conditions that rule it out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headway.data.batching.packing import arrange, num_computed_tokens
from headway.data.batching.rows import StoreRows
from headway.data.order import StoreOrder

MIN_SHARE = 0.1  # of a step's tokens; less is not worth the bookkeeping
_MAX_ROWS = 4096  # rows and steps to examine
_MAX_STEPS = 64
_UNUSED_HEADS = ("classifier", "summary")  # dropout of heads a causal language model does not have
_WINDOWS = ("sliding_window", "window_size", "attention_window", "attention_chunk_size")


@dataclass(frozen=True)
class PrefixSavings:
    """What sharing saves in the steps that were examined.

    Attributes:
        share: of the input tokens, those that need not be computed again.
        leaves: the most leaves of a step, as packing makes them.
    """

    share: float
    leaves: int


def prefix_savings(
    rows: StoreRows, order: StoreOrder, leaves: int, micro_batch_tokens: int
) -> PrefixSavings:
    """Pack steps as training will: all of a small epoch, else evenly spaced ones.

    Args:
        rows: of the data, or of its sample.
        order: which rows make which step.
        leaves: at most this many per step.
        micro_batch_tokens: at most this many tokens at once.
    """
    order = order.of_sample(rows.num_rows)
    per_epoch = order.steps_per_epoch
    num_steps = min(per_epoch, _MAX_STEPS, max(1, _MAX_ROWS // order.batch_size))
    num_inputs = num_computed = max_leaves = 0
    for i in range(num_steps):
        numbers = order.rows(1 + i * per_epoch // num_steps)[1]
        segments = {int(n): rows.segments(int(n)) for n in numbers}
        lengths = {n: sum(map(len, parts)) for n, parts in segments.items()}
        step = arrange(segments, leaves, micro_batch_tokens, share=True)
        num_inputs += sum(lengths.values())
        num_computed += sum(
            num_computed_tokens(f, lengths) for leaf in step for micro in leaf for f in micro
        )
        max_leaves = max(max_leaves, len(step))
    return PrefixSavings(1 - num_computed / num_inputs, max_leaves)


def sharing_obstacle(config: Mapping[str, Any], max_length: int, lora_dropout: float) -> str:
    """Why sharing a prefix would change a row's result; "" if it would not.

    Args:
        config: transformers' config.json of the model.
        max_length: of the rows.
        lora_dropout: of the adapters.
    """
    text = config.get("text_config")
    if isinstance(text, dict):
        config = {**config, **text}
    numbers = {k: v for k, v in config.items() if type(v) in (int, float) and v > 0}
    for name, value in numbers.items():
        if "drop" in name and not name.startswith(_UNUSED_HEADS):
            return f"{name} {value:g} is random for each row"
    if lora_dropout:
        return f"lora.lora_dropout {lora_dropout:g} is random for each row"
    if config.get("use_sliding_window") is False:
        return ""
    windows = [v for k, v in numbers.items() if k in _WINDOWS and v < max_length]
    return f"the model has attention windows of {min(windows):,} tokens" if windows else ""
