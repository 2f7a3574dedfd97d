"""Measurement keys: the same for the same thing, another for anything that changes its speed."""

from dataclasses import replace

import pytest

from headway.base.machine import FAST_BF16, this_machine
from headway.runs.measurements import bf16_gain, peak_key, process_key, startup_key


def test_every_measurement_has_a_key_of_its_own() -> None:
    keys = [
        peak_key("cpu", "torch.float32", 2, "2.13"),
        peak_key("cpu", "torch.bfloat16", 2, "2.13"),
        peak_key("cpu", "torch.float32", 4, "2.13"),
        peak_key("cuda", "torch.float32", 2, "2.13"),
        *(key(torch) for key in (startup_key, process_key) for torch in ("2.13", "2.14")),
    ]
    assert len(set(keys)) == len(keys)


def test_the_keys_are_those_that_are_stored_already() -> None:
    """Another spelling would measure every machine again."""
    assert peak_key("cpu", "torch.float32", 2, "2.13.0") == "peak|cpu|torch.float32|2|torch 2.13.0"
    assert startup_key("2.13.0") == "startup|2.13.0"
    assert process_key("2.13.0") == "process|2.13.0"


@pytest.mark.parametrize(("flags", "gain"), [(FAST_BF16, 1.0), (frozenset[str](), 1.6)])
def test_bf16_must_gain_less_on_a_processor_made_for_it(flags: frozenset[str], gain: float) -> None:
    assert bf16_gain(replace(this_machine(), cpu_flags=flags)) == gain
