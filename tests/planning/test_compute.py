"""Device, threads and number format: as given, as measured, else as the machine suggests."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.helpers import HERE, settings

from headway.base.errors import Cause, UsageError
from headway.config.optimizers import OPTIMIZERS
from headway.planning.compute import KnownMachine, decide_compute, in_shards

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
def test_the_number_format_is_the_faster_one(facts: KnownMachine, dtype: str) -> None:
    decision = decide_compute(settings(), facts)
    assert decision.value.dtype == dtype
    assert decision.value.value_bytes == (2 if dtype == "bfloat16" else 4)
    assert {choice.name for choice in decision.choices} == {"threads", "device", "bf16"}


def test_what_is_given_is_not_chosen() -> None:
    decision = decide_compute(settings(bf16=True, threads=3, device="cpu"), HERE)
    assert (decision.value.dtype, decision.value.threads) == ("bfloat16", 3)
    assert decision.choices == ()


@pytest.mark.parametrize(
    ("given", "reduction", "shards"),
    [
        ({"nproc": 2}, "tree", 1),
        ({"nproc": 4, "reduction": "hsdp"}, "hsdp", 4),
        ({"nproc": 4, "groups": 2, "reduction": "hsdp"}, "hsdp", 2),
        ({"nproc": 1, "reduction": "hsdp"}, "hsdp", 1),
    ],
)
def test_a_model_is_cut_over_the_workers_of_a_group(
    given: dict[str, Any], reduction: str, shards: int
) -> None:
    compute = decide_compute(settings(**given), HERE).value
    assert (compute.reduction, compute.num_shards) == (reduction, shards)
    assert compute.is_sharded == (shards > 1)


@pytest.mark.parametrize(
    "given",
    [
        {"nproc": 3, "groups": 2},
        {"nproc": 2, "torch_compile": True},
        {"nproc": 2, "optim": "muon"},
    ],
    ids=str,
)
def test_shards_that_cannot_be_are_refused_with_settings_that_can(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as refused:
        decide_compute(settings(reduction="hsdp", **given), HERE)
    assert refused.value.cause is Cause.CONTRADICTION
    for remedy in refused.value.remedies:
        name, _, value = remedy.do.removeprefix("--").partition(" ")
        better: dict[str, Any] = {name: int(value) if value.isdigit() else value}
        if name.startswith("no-"):
            better = {name.removeprefix("no-").replace("-", "_"): False}
        decide_compute(settings(**{"reduction": "hsdp"} | given | better), HERE)


@pytest.mark.parametrize(
    ("given", "possible"),
    [
        ({"nproc": 2}, True),
        ({"nproc": 1}, False),
        ({"nproc": 3, "groups": 2}, False),
        ({"nproc": 2, "reduction": "tree"}, False),
        ({"nproc": 2, "torch_compile": True}, False),
        ({"nproc": 2, "optim": "muon"}, False),
    ],
    ids=str,
)
def test_shards_take_the_place_of_copies_unless_somebody_wants_these(
    given: dict[str, Any], possible: bool
) -> None:
    asked = settings(**given)
    shards = in_shards(asked, decide_compute(asked, HERE))
    assert (shards is not None) == possible
    if shards:
        assert shards.value.is_sharded
        (choice,) = (one for one in shards.choices if one.name == "reduction")
        assert (choice.value, choice.origin) == ("hsdp", "auto")


@pytest.mark.parametrize(
    ("given", "device", "remedies"),
    [
        ({"optim": "paged_adamw"}, "cpu", ["--optim adamw"]),
        ({"optim": "paged_adamw_8bit"}, "cpu", ["--optim adamw_8bit"]),
        (
            {"load_in_4bit": True},
            "mps",
            ["--device cpu", "--no-load-in-4bit --optim adamw"],
        ),
        (
            {"optim": "adamw_8bit", "nproc": 2, "reduction": "hsdp"},
            "cpu",
            ["--optim adamw", "--reduction tree"],
        ),
        (
            {"load_in_4bit": True, "nproc": 2, "reduction": "hsdp"},
            "cpu",
            ["--no-load-in-4bit", "--reduction tree"],
        ),
    ],
)
def test_what_bitsandbytes_cannot_do_on_a_device_is_refused(
    given: dict[str, Any], device: str, remedies: list[str]
) -> None:
    with pytest.raises(UsageError) as refused:
        decide_compute(settings(**given), replace(HERE, device=device))
    assert refused.value.cause is Cause.CONTRADICTION
    assert [remedy.do for remedy in refused.value.remedies] == remedies


@pytest.mark.parametrize("optim", OPTIMIZERS)
def test_a_gpu_takes_every_optimizer(optim: str) -> None:
    decide_compute(settings(optim=optim, load_in_4bit=True), replace(HERE, device="cuda"))


@pytest.mark.parametrize("given", [{"load_in_4bit": True}, {"optim": "adamw_8bit"}])
def test_what_needs_bitsandbytes_is_not_cut_into_shards(given: dict[str, Any]) -> None:
    asked = settings(nproc=4, **given)
    assert in_shards(asked, decide_compute(asked, HERE)) is None
