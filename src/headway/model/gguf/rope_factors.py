"""Rotary factors of Llama 3: by how much it divides each frequency, as a GGUF file has them."""

import math

ROPE_FACTORS = "rope_freqs.weight"  # the tensor
LLAMA3_LOW, LLAMA3_HIGH, LLAMA3_CONTEXT = 1.0, 4.0, 8192  # of all its models


def llama3_factors(
    base: float,
    head_dim: int,
    factor: float,
    *,
    low: float = LLAMA3_LOW,
    high: float = LLAMA3_HIGH,
    context: float = LLAMA3_CONTEXT,
) -> list[float]:
    """The divisor of each pair's frequency.

    Args:
        base: of the frequencies.
        head_dim: numbers of a head, two for each frequency.
        factor: of the frequencies that turn less than `low` times in `context`.
        low: turns.
        high: turns; frequencies with more stay as they are.
        context: tokens that the model was first trained on.

    Source: transformers' `_compute_llama3_parameters`.
    """
    found: list[float] = []
    for pair in range(head_dim // 2):
        wavelength = 2 * math.pi * base ** (2 * pair / head_dim)
        smooth = (context / wavelength - low) / (high - low)
        smooth = min(1.0, max(0.0, smooth))
        found.append(1 / ((1 - smooth) / factor + smooth))
    return found
