"""Device, threads and number format: as given, as measured, else as the machine suggests."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.helpers import HERE, settings

from headway.planning.compute import MachineFacts, decide_compute

AMX = replace(HERE.machine, cpu_flags=frozenset({"amx_bf16"}))


def measured(bf16: float, fp32: float) -> Callable[[str], float | None]:
    return lambda key: bf16 if "bfloat16" in key else fp32


@pytest.mark.parametrize(
    ("facts", "dtype"),
    [
        (HERE, "float32"),
        (replace(HERE, device="cuda"), "bfloat16"),
        (
            replace(HERE, machine=replace(HERE.machine, cpu_flags=frozenset({"amx_bf16"}))),
            "bfloat16",
        ),
        (replace(HERE, measured=measured(2e12, 1e12)), "bfloat16"),
        (replace(HERE, measured=measured(1.1e12, 1e12)), "float32"),
        (replace(HERE, device="cuda", measured=measured(1e12, 2e12)), "float32"),
    ],
)
def test_the_number_format_is_the_faster_one(facts: MachineFacts, dtype: str) -> None:
    decision = decide_compute(settings(), facts)
    assert decision.value.dtype == dtype
    assert decision.value.value_bytes == (2 if dtype == "bfloat16" else 4)
    assert {choice.name for choice in decision.choices} == {"threads", "device", "bf16"}


def test_what_is_given_is_not_chosen() -> None:
    decision = decide_compute(settings(bf16=True, threads=3, device="cpu"), HERE)
    assert (decision.value.dtype, decision.value.threads) == ("bfloat16", 3)
    assert decision.choices == ()
