"""What fits on a GPU is told before anything is downloaded, with the line to type."""

from typing import Any

import pytest
from tests.helpers import settings
from tests.llama_8b import LLAMA_8B

from headway.base.errors import Cause, MachineError
from headway.config.command_line import parse
from headway.model.sizes import shape_of
from headway.planning.gpu.model_facts import SizedModel
from headway.planning.gpu.ways import GpuPlan, plan_gpu
from headway.planning.memory.estimate import ESTIMATE_ERROR

SMALL = LLAMA_8B | {"hidden_size": 576, "num_hidden_layers": 30, "intermediate_size": 1536}
GB = 10**9


def planned(gigabytes: float, config: dict[str, Any] = LLAMA_8B, **given: Any) -> GpuPlan:
    shape = shape_of(config)
    facts = SizedModel("owner/name", config, shape, shape.parameters)
    return plan_gpu(facts, settings(**given), round(gigabytes * GB))


@pytest.mark.parametrize(
    ("gigabytes", "chosen", "recomputes"),
    [(12, "4-bit LoRA", True), (24, "LoRA", True), (80, "LoRA", False)],
)
def test_the_first_way_that_fits_is_recommended(
    gigabytes: float, chosen: str, recomputes: bool
) -> None:
    plan = planned(gigabytes)
    assert (plan.chosen.name, plan.recomputes, plan.tokens) == (chosen, recomputes, 2048)
    peak = plan.chosen.recomputed_bytes if recomputes else plan.chosen.peak_bytes
    assert peak * (1 + ESTIMATE_ERROR) <= gigabytes * GB
    assert plan.sentence.startswith(f"{chosen} fits at 2,048 tokens")
    assert plan.sentence.endswith("; full weights need 161.2 GB")
    assert ("--gradient-checkpointing" in plan.command) == recomputes


def test_a_small_model_is_trained_whole() -> None:
    plan = planned(24, SMALL)
    assert plan.chosen == plan.ways[0]
    assert plan.sentence == "full weights fit at 2,048 tokens"
    assert "--l" not in plan.command


def test_each_way_needs_less_than_the_one_before() -> None:
    full, in_8bit, lora, in_4bit, _ = planned(80).ways
    peaks = [way.peak_bytes for way in (full, in_8bit, lora, in_4bit)]
    assert peaks == sorted(peaks, reverse=True)
    for gigabytes in (12, 80, 200, 240, 310):
        assert all(w.recomputed_bytes <= w.peak_bytes for w in planned(gigabytes).ways)
    assert in_4bit.recomputed_bytes < 0.6 * in_4bit.peak_bytes
    assert full.peak_bytes - in_8bit.peak_bytes == pytest.approx(5.97 * 8.03e9, rel=0.01)


def test_leaves_are_those_that_a_plan_would_choose() -> None:
    """More memory, more sums of a step's gradient: 4 bytes for each weight and halving."""
    few, some, usual = (planned(gigabytes).ways[0] for gigabytes in (193, 240, 310))
    a_sum = 4 * 8.03e9
    assert some.peak_bytes - few.peak_bytes == pytest.approx(a_sum, rel=0.01)
    assert usual.peak_bytes - few.peak_bytes == pytest.approx(3 * a_sum, rel=0.01)
    assert planned(193).sentence == "full weights fit at 2,048 tokens"


def test_shorter_rows_where_2048_tokens_do_not_fit() -> None:
    plan = planned(5.9, LLAMA_8B | {"vocab_size": 8192})
    assert plan.tokens == plan.chosen.longest < 2048
    assert f"--max-length {plan.tokens} " in plan.command


@pytest.mark.parametrize("given", [{}, {"max_length": 8192}, {"lora": True}])
def test_nothing_fits(given: dict[str, Any]) -> None:
    with pytest.raises(MachineError) as refused:
        planned(4, **given)
    error = refused.value
    assert error.cause is Cause.OUT_OF_MEMORY
    assert (error.have, error.need.split(" for ")[1][:10]) == ("4.0 GB", "4-bit LoRA")
    gigabytes = int(error.remedies[-1].do.removeprefix("--gpu ").removesuffix("GB"))
    assert planned(gigabytes, **given).chosen.name == "4-bit LoRA"


@pytest.mark.parametrize(
    ("given", "ways"),
    [
        ({"lora": True}, {("LoRA", "adamw"), ("4-bit LoRA", "adamw")}),
        ({"load_in_4bit": True, "lora": True}, {("4-bit LoRA", "adamw")}),
        (
            {"optim": "paged_adamw_8bit", "load_in_4bit": True, "lora": True},
            {("4-bit LoRA", "paged_adamw_8bit")},
        ),
    ],
)
def test_what_is_asked_for_is_what_is_looked_at(
    given: dict[str, Any], ways: set[tuple[str, str]]
) -> None:
    plan = planned(80, **given)
    assert {(way.name, way.optim) for way in plan.ways} == ways


def test_a_longer_row_needs_more_and_the_context_ends_it() -> None:
    short, long = planned(80, max_length=512), planned(80, max_length=8192)
    assert short.chosen.peak_bytes <= long.ways[short.ways.index(short.chosen)].peak_bytes
    assert planned(80, max_length=99999).tokens == 8192
    assert max(way.longest for way in planned(80).ways) == 8192


@pytest.mark.parametrize("gigabytes", [12, 24, 80, 400])
def test_the_line_can_be_typed(gigabytes: float) -> None:
    headway, train, *words = planned(gigabytes).command.split()
    assert (headway, train) == ("headway", "train")
    sources, found = parse(words, {}, settings=True).settings()
    assert sources == ("DATA",)
    assert found.model == "owner/name"
