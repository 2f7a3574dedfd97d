"""Rows, batches and steps that fit the data: as asked, adjusted, or refused with what works."""

import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.helpers import HERE, TINY, decided, findings, folder_of, in_memory, order_of, settings

from headway.base.errors import DataRefused, Problems, Refusal, UsageError
from headway.config.resolve import resolve
from headway.config.settings import ChosenBy, Given
from headway.data.survey.store import Store
from headway.planning.decide import decide
from headway.planning.model_source import InitialModel
from headway.runs.plan import Plan
from headway.training.optimizer import learning_rate

CHAT = "." * 18 + "x" * 16  # incident D: 34 tokens


def flags(line: str) -> dict[str, str]:
    """The settings of a remedy that is typed: "--max-length 64" -> {"max_length": "64"}."""
    return {name.replace("-", "_"): value for name, value in re.findall(r"--([\w-]+) (\S+)", line)}


# ---- going on: what another run chose, and this data cannot take -------------------------------


def continued(store: Store, by: ChosenBy, **values: int) -> Plan:
    """The plan of a run that takes over what `by` chose in run `first`."""
    layer = [Given(name, value, "run first", by) for name, value in values.items()]
    return decide(resolve(layer), ("notes.txt",), store, folder_of(4096), HERE)


BY: list[ChosenBy] = ["person", "planner"]


@pytest.mark.parametrize("by", BY)
def test_a_length_and_a_batch_are_taken_over(by: ChosenBy) -> None:
    plan = continued(in_memory(5000), by, max_length=64, batch_size=4)
    assert (plan.data.max_length, plan.steps.batch_size) == (64, 4)
    for name in ("max_length", "batch_size"):
        choice = plan.choice(name)
        assert (choice.origin, choice.inherited, choice.asked) == ("run first", by, None)


def test_a_multiplier_is_of_the_rate_that_is_taken_over() -> None:
    layer = [Given("learning_rate", 3e-3, "run first", "planner")]
    layer += [Given("learning_rate_multiplier", 2, "--flag")]
    plan = decide(resolve(layer), ("notes.txt",), in_memory(5000), folder_of(), HERE)
    assert plan.learning.peak == 6e-3
    assert plan.choice("learning_rate").reason == "2 x 3e-3, as in run first"


@pytest.mark.parametrize("by", BY)
def test_a_text_shorter_than_a_row_gets_shorter_rows(by: ChosenBy) -> None:
    plan = continued(in_memory(100), by, max_length=256)
    choice = plan.choice("max_length")
    assert (choice.value, choice.origin, choice.asked) == (64, "auto", 256)
    assert choice.reason == "the text has 100 tokens; 256 in run first"
    assert choice.inherited == by  # the run after this one is asked for 256 again


def test_a_length_that_the_planner_chose_grows_with_the_conversations() -> None:
    store = in_memory(*["." * 100 + "x" * 100] * 8)
    plan = continued(store, "planner", max_length=64)
    choice = plan.choice("max_length")
    assert (plan.data.max_length, plan.data.truncated) == (256, 0)
    assert choice.reason == "holds the longest conversation (200 tokens); 64 in run first"
    assert choice.asked == 64
    longer = continued(store, "planner", max_length=512)
    assert (longer.data.max_length, longer.choice("max_length").origin) == (512, "run first")


def test_a_length_that_a_person_chose_stays() -> None:
    with pytest.raises(DataRefused, match="max_length 64 cuts off answers"):
        continued(in_memory(*["." * 100 + "x" * 100] * 8), "person", max_length=64)


def test_a_batch_that_was_lowered_keeps_what_was_asked_for() -> None:
    plan = continued(in_memory(1000), "planner", max_length=256, batch_size=32)
    choice = plan.choice("batch_size")
    assert (choice.value, choice.asked, choice.inherited) == (3, 32, "planner")


def test_a_short_text_leaves_the_usual_length_to_the_next_run() -> None:
    assert decided(in_memory(100)).choice("max_length").asked == 256
    assert decided(in_memory(100), folder_of(4096)).choice("max_length").asked == 1024


# ---- incident A: too little text for a batch ---------------------------------------------------


def test_a_too_few_rows_for_the_batch_are_one_batch() -> None:
    plan = decided(in_memory(1598), batch_size=32, max_length=128)
    assert (plan.steps.batch_size, plan.steps.num, plan.steps.last_batch) == (12, 1, 13)
    assert (plan.data.rows.accepted, plan.data.rows.planned) == (13, 13)
    assert (plan.steps.tokens, plan.steps.leaves) == (1536, 1)
    (adjusted,) = [finding for finding in plan.findings if finding.kind == "adjusted"]
    assert adjusted.what == "batch_size lowered to 12: there are no more rows"
    assert "32 x 128 = 4,096 tokens" in adjusted.have
    assert "12 full rows (1,536 tokens) and a short one" in adjusted.have
    assert plan.choice("batch_size").reason == f"adjusted: {adjusted.what}"
    assert plan.choice("batch_size").origin == "--batch_size"


@pytest.mark.parametrize(("asked", "batch"), [(11, 11), (12, 12), (13, 12)])
def test_a_the_batch_is_adjusted_where_there_are_no_more_rows(asked: int, batch: int) -> None:
    plan = decided(in_memory(1598), batch_size=asked, max_length=128)
    assert plan.steps.batch_size == batch
    assert bool(findings(plan, "adjusted")) == (asked > batch)


def test_a_exact_refuses_what_would_be_adjusted() -> None:
    with pytest.raises(UsageError, match="batch_size lowered to 12") as refused:
        decided(in_memory(1598), batch_size=32, max_length=128, exact=True)
    typed, last = refused.value.remedies
    assert last.do == "leave out --exact"
    plan = decided(in_memory(1598), max_length=128, exact=True, **flags(typed.do))
    assert findings(plan, "adjusted") == []
    assert plan.steps.batch_size == 12


def test_a_exact_tells_all_that_it_would_adjust() -> None:
    with pytest.raises(Problems) as refused:
        decided(in_memory(500), folder_of(64), batch_size=32, max_length=128, exact=True)
    assert len(refused.value.problems) == 2


def test_a_text_shorter_than_a_row_is_refused_with_numbers_that_work() -> None:
    store = in_memory(100)
    with pytest.raises(DataRefused) as refused:
        decided(store, max_length=128)
    assert str(refused.value).splitlines() == [
        "notes.txt is too short for one row",
        "  have  100 tokens",
        "  need  129, one full row of max_length 128",
        "  try   --max-length 64   1 batch of 1 row, the rest as a short row",
        "  try   more text         29 tokens more, about 29 characters",
    ]
    plan = decided(store, **flags(refused.value.remedies[0].do))
    assert (plan.steps.num, plan.steps.last_batch) == (1, 2)
    assert decided(in_memory(129), max_length=128).steps.num == 1  # 29 tokens more


def test_a_enough_text_is_left_as_asked() -> None:
    plan = decided(in_memory(100_000), batch_size=32, max_length=128)
    assert findings(plan, "adjusted") == []
    assert (plan.steps.batch_size, plan.data.max_length) == (32, 128)
    assert plan.steps.num == math.ceil((99_999 // 128) / 32)


@pytest.mark.parametrize("rows", [1, 3, 31, 32, 33, 70])
def test_b04_accumulation_longer_than_the_epoch_still_takes_a_step(rows: int) -> None:
    """32 rows a step, whatever the epoch has: all of them are trained, and less is told."""
    store = in_memory(rows * 64 + 1)
    given = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 8, "max_length": 64}
    plan = decided(store, **given)
    order = order_of(plan, store)
    trained = [n for step in range(1, plan.steps.num + 1) for n in order.rows(step)[1].tolist()]
    assert sorted(trained) == list(range(rows))
    assert plan.steps.num == math.ceil(rows / 32)
    assert plan.steps.batch_size == min(rows, 32)
    assert bool(findings(plan, "adjusted")) == (rows < 32)


SIZES = range(0, 5001, 7)


@pytest.mark.parametrize(
    "given", [{}, {"batch_size": 32, "max_length": 128}, {"val_size": 0.1}], ids=str
)
def test_f24_every_size_gives_a_plan_with_a_step_or_a_refusal(given: dict[str, Any]) -> None:
    for size in SIZES:
        store = in_memory(*([size] if size else []))
        try:
            plan = decided(store, **given)
        except DataRefused as refused:
            check_remedies(store, given, refused)
            continue
        assert plan.steps.num >= 1, size
        order = order_of(plan, store)
        assert all(len(order.rows(step)[1]) for step in range(1, plan.steps.num + 1)), size
        lr = [learning_rate(plan.learning, s, plan.steps.num) for s in (1, plan.steps.num)]
        assert min(lr) > 0, size


def check_remedies(store: Store, given: dict[str, Any], refused: Refusal) -> None:
    """Whatever can be typed gives a plan."""
    for remedy in refused.remedies:
        if remedy.do.startswith("--"):
            assert decided(store, **given | flags(remedy.do)).steps.num >= 1


@pytest.mark.parametrize("size", [0, 1, 2])
def test_f24_next_to_nothing_is_refused(size: int) -> None:
    with pytest.raises(DataRefused, match="too short for one row"):
        decided(in_memory(*([size] if size else [])))


# ---- max_length --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("longest", "length"), [(2, 64), (64, 64), (65, 128), (128, 128), (200, 256), (300, 256)]
)
def test_conversations_have_the_smallest_length_that_holds_them(longest: int, length: int) -> None:
    store = in_memory(*["..xx"] * 200, "." * 10 + "x" * (longest - 10) if longest > 10 else ".x")
    assert decided(store, folder_of()).data.max_length == length  # the context is 256


def test_the_context_caps_the_length_and_says_so() -> None:
    store = in_memory(*["..xx"] * 200, "." + "x" * 299)
    plan = decided(store, folder_of())
    assert plan.choice("max_length").reason == (
        "the model's context length; the longest conversation has 300 tokens"
    )
    assert plan.data.truncated == 1
    plan = decided(in_memory(2000), folder_of(), max_length=512)
    assert plan.data.max_length == 256
    assert "max_length lowered to 256, the model's context length" in findings(plan, "adjusted")[0]


@pytest.mark.parametrize(
    ("tokens", "start", "length"),
    [
        (100_000, TINY, 256),
        (100_000, folder_of(2048), 1024),
        (100_000, folder_of(512), 512),
        (300, TINY, 256),
        (257, TINY, 256),
        (256, TINY, 128),
        (100, TINY, 64),
        (3, TINY, 2),
    ],
)
def test_the_length_of_text_rows(tokens: int, start: InitialModel, length: int) -> None:
    assert decided(in_memory(tokens), start).data.max_length == length


# ---- cut answers -------------------------------------------------------------------------------

LONG = "." * 200 + "x" * 50


def test_cut_conversations_are_counted_and_told() -> None:
    plan = decided(in_memory(*["..xx"] * 199, "." + "x" * 200), folder_of(), max_length=64)
    assert plan.data.truncated == 1
    (warned,) = [f for f in plan.findings if "are cut to max_length" in f.what]
    assert warned.what == "1 of 200 conversations are cut to max_length"
    assert [r.do for r in warned.remedies] == ["--max-length 256"]


def test_t05_answers_that_would_be_lost_are_refused() -> None:
    store = in_memory(*["..xx"] * 50, LONG)
    with pytest.raises(DataRefused, match="max_length 64 cuts off answers") as refused:
        decided(store, folder_of(), max_length=64)
    assert "1 of them lose every trained token" in refused.value.have
    assert decided(store, folder_of(), **flags(refused.value.remedies[0].do)).data.truncated == 0


def test_truncation_reject_refuses_any_cut() -> None:
    store = in_memory(*["..xx"] * 50, "." + "x" * 200)
    assert decided(store, folder_of(), max_length=64).data.truncated == 1
    with pytest.raises(DataRefused) as refused:
        decided(store, folder_of(), max_length=64, truncation="reject")
    again = flags(refused.value.remedies[0].do) | {"truncation": "reject"}
    assert decided(store, folder_of(), **again).data.truncated == 0


@pytest.mark.parametrize("given", [{}, {"max_length": 64}])
def test_no_remedy_is_longer_than_the_folder_of(given: dict[str, Any]) -> None:
    """A --max-length beyond what the model takes would be cut to its context once more."""
    with pytest.raises(DataRefused, match="cuts off answers") as refused:
        decided(in_memory(*["..xx"] * 9, "." * 300 + "x"), folder_of(), **given)
    assert refused.value.remedies
    assert not any("--max-length" in remedy.do for remedy in refused.value.remedies)
    plan = decided(in_memory(*["..xx"] * 9, "." + "x" * 300), folder_of(), **given)
    (warned,) = [f for f in plan.findings if "are cut" in f.what]
    assert not warned.remedies


# ---- the batch ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "batch"),
    [
        ({"batch_size": 10}, 10),
        ({"per_device_train_batch_size": 4, "gradient_accumulation_steps": 3}, 12),
        ({"per_device_train_batch_size": 4}, 4),
        ({"gradient_accumulation_steps": 3}, 3),
        ({"batch_size": 12, "per_device_train_batch_size": 4, "grad_accum": 3}, 12),
        ({"batch_tokens": 640}, 10),
        ({"tokens_per_chunk": 100}, 2),
        ({"batch_tokens": 2}, 1),
    ],
)
def test_the_batch_as_asked(given: dict[str, Any], batch: int) -> None:
    plan = decided(in_memory(6401), max_length=64, **given)
    assert plan.steps.batch_size == batch
    assert plan.choice("batch_size").value == batch


def test_a_product_is_printed() -> None:
    plan = decided(in_memory(6401), per_device_train_batch_size=4, gradient_accumulation_steps=2)
    assert plan.choice("batch_size").reason == "4 per device x 2 steps x 1 process"


@pytest.mark.parametrize(
    ("tokens", "least", "most"),
    [(300, 1, 4), (2000, 1, 4), (9000, 1, 4), (50_000, 8, 16), (99_000, 8, 16), (10**6, 32, 64)],
)
def test_the_usual_batch_goes_by_the_size_of_the_data(tokens: int, least: int, most: int) -> None:
    plan = decided(in_memory(tokens), max_length=128)
    assert least <= plan.steps.batch_size <= most
    if plan.data.rows.accepted >= 8:
        assert plan.steps.num >= 8


def test_a_batch_larger_than_what_is_left_to_train_on() -> None:
    plan = decided(in_memory(1598), batch_size=12, max_length=128, val_size=2)
    assert plan.steps.batch_size == 10
    assert findings(plan, "adjusted") == ["batch_size lowered to 10: there are no more rows"]


# ---- held-out rows with an identical row -------------------------------------------------------


def with_twins(*contents: int) -> Store:
    """Conversations that are alike where their numbers are."""
    store = in_memory(*["..xx"] * len(contents))
    store.ids = np.repeat(np.array(contents, np.uint16), 4)
    return store


@pytest.mark.parametrize(
    ("num", "batch", "held_out"),
    [
        *((1, 8, 0), (49, 8, 0), (50, 8, 1), (57, 8, 0), (100, 8, 2), (1000, 8, 7)),
        *((1000, 1, 0), (1000, 100, 8), (19_900, 8, 3)),
    ],
)
def test_few_rows_are_held_out_as_long_as_no_step_is_lost(
    num: int, batch: int, held_out: int
) -> None:
    store = in_memory(*["." * 3 + "x" * 3] * num)
    few, none = (decided(store, batch_size=batch, val_size=size) for size in ("few", 0))
    assert few.data.rows.held_out == held_out
    assert few.steps.num == none.steps.num
    assert few.choice("val_size").value == held_out
    assert "cost no step" in few.choice("val_size").reason


def test_few_rows_have_no_identical_one() -> None:
    store = in_memory(*["." * 3 + "x" * 3] * 200, 7)
    store.ids[: 198 * 6] = 100
    plan = decided(store, batch_size=7, val_size="few")
    assert order_of(plan, store).held_out().tolist() == [198, 199, 200]
    store.ids[:] = 100
    plan = decided(store, batch_size=7, val_size="few")
    assert order_of(plan, store).held_out().tolist() == [200]  # the longer one


def test_rows_with_an_identical_row_are_not_held_out() -> None:
    store = with_twins(*range(30), *range(10))
    plan = decided(store, folder_of(), val_size=15)
    order = order_of(plan, store)
    assert plan.data.rows.held_out == 15
    assert {row for row in order.held_out().tolist() if row % 30 < 10} == set()
    assert len(plan.data.twin_places) > 0
    assert findings(plan, "adjusted") == []


def test_fewer_are_held_out_where_too_few_differ_from_all_others() -> None:
    plan = decided(with_twins(*range(30), *range(25)), folder_of(), val_size=15)
    assert plan.data.rows.held_out == 5
    what = "held-out rows lowered to 5: the others have an identical row"
    assert findings(plan, "adjusted") == [what]
    assert (plan.choice("val_size").value, plan.choice("val_size").asked) == (5, 15)


def test_none_can_be_held_out_where_all_are_alike() -> None:
    store = with_twins(*[7] * 20)
    with pytest.raises(DataRefused, match="no row can be held out") as refused:
        decided(store, folder_of(), val_size=0.1)
    assert [remedy.do for remedy in refused.value.remedies] == ["--val-size 0"]
    store.meta = replace(store.meta, survey=replace(store.survey, duplicates=19))
    with pytest.raises(DataRefused) as refused:
        decided(store, folder_of(), val_size=0.1)
    assert refused.value.remedies[0].do == "--drop-duplicates"


# ---- held-out rows -----------------------------------------------------------------------------


@pytest.mark.parametrize(("asked", "held_out"), [(0, 0), (3, 3), (0.1, 10), (0.001, 1), (0.25, 25)])
def test_rows_are_held_out(asked: float, held_out: int) -> None:
    plan = decided(in_memory(1601), max_length=16, val_size=asked)
    assert plan.data.rows.held_out == held_out
    assert plan.data.rows.accepted == 100


@pytest.mark.parametrize(("rows", "asked"), [(1, 0.5), (1, 1), (10, 10), (10, 0.99), (15, 99)])
def test_holding_everything_out_is_refused_with_numbers_that_work(rows: int, asked: float) -> None:
    store = in_memory(rows * 16 + 1)
    with pytest.raises(DataRefused, match="leaves nothing to train on") as refused:
        decided(store, max_length=16, val_size=asked)
    for remedy in refused.value.remedies:
        plan = decided(store, max_length=16, **flags(remedy.do))
        assert plan.steps.num >= 1
        if remedy.gives.startswith("holds out"):
            assert remedy.gives == f"holds out {plan.data.rows.held_out}"


# ---- how long ----------------------------------------------------------------------------------
# 100 rows of 16 tokens in steps of 10: 10 steps an epoch.


@pytest.mark.parametrize(
    ("given", "num"),
    [
        ({}, 10),
        ({"num_train_epochs": 3}, 30),
        ({"num_train_epochs": 0.5}, 5),
        ({"num_train_epochs": 0.55}, 6),
        ({"num_train_epochs": 1e-9}, 1),
        ({"num_train_epochs": 0.1 + 0.2}, 3),  # not 4, for a rounding error's sake
        ({"max_steps": 3}, 3),
        ({"max_steps": 25}, 25),  # goes round the data as often as it takes
        ({"max_steps": 3, "num_train_epochs": 5}, 3),
        ({"max_steps": 25, "num_train_epochs": 1}, 25),  # steps win over epochs
        ({"max_tokens": 480}, 3),
        ({"max_tokens": 479}, 2),  # at most
        ({"max_tokens": 1}, 1),
        ({"max_tokens": 4000}, 25),
        ({"max_tokens": 4000, "num_train_epochs": 1}, 10),
        ({"max_tokens": 320, "max_steps": 9}, 2),
        ({"max_tokens": 3200, "max_steps": 9}, 9),
        ({"test": True}, 10),
        ({"test": True, "num_train_epochs": 9}, 20),
        ({"test": True, "max_steps": 500}, 20),
    ],
    ids=str,
)
def test_steps_of_a_job(given: dict[str, Any], num: int) -> None:
    plan = decided(in_memory(1601), max_length=16, batch_size=10, **given)
    assert (plan.steps.num, plan.steps.per_epoch) == (num, 10)
    assert plan.steps.epochs == num / 10


@pytest.mark.parametrize(("device", "tokens"), [("cpu", 2048), ("cuda", 4096)])
def test_a_gpu_runs_more_at_once_and_cuts_a_step_the_same_way(device: str, tokens: int) -> None:
    given = settings(batch_size=64, max_length=512)
    plan = decide(given, ("n.txt",), in_memory(40_001), TINY, replace(HERE, device=device))
    assert (plan.steps.leaves, plan.steps.micro_batch_tokens) == (8, tokens)


def test_max_tokens_are_trained_tokens() -> None:
    """Of conversations only the answers count: 16 of 34 tokens here."""
    plan = decided(in_memory(*[CHAT] * 100), folder_of(), batch_size=10, max_tokens=480)
    assert plan.steps.num == 3


def test_a_trial_lasts_two_minutes_at_most() -> None:
    assert decided(in_memory(1601), test=True).max_time_s == 120
    assert decided(in_memory(1601), test=True, max_time=30).max_time_s == 30
    assert decided(in_memory(1601)).max_time_s is None
    assert decided(in_memory(1601), test=True).name == "notes-test"
