from dataclasses import replace
from typing import Any

import pytest
from tests.ui.fixtures import WIDTHS, conversations_plan, text_plan, texts, words_of

from headway.data.survey.result import PassedOver
from headway.runs.plan import Choice, Plan, WorkerSpeed, WorkSaved
from headway.ui.show_plan import plan_lines
from headway.ui.text_layout import cells


def shown(plan: Plan, width: int, *, verbose: bool = False) -> list[str]:
    return texts(plan_lines(plan, width, verbose=verbose))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("plan", [conversations_plan(), text_plan()], ids=["continued", "new"])
def test_a_plan_fits_any_width(plan: Plan, width: int) -> None:
    for verbose in (False, True):
        lines = shown(plan, width, verbose=verbose)
        assert max(map(cells, lines)) <= width
        assert not any("\x1b" in line or line != line.rstrip() for line in lines)


def test_a_plan_fits_one_screen() -> None:
    assert len(shown(conversations_plan(), 80)) <= 35
    assert len(shown(text_plan(), 80)) <= 35


def test_the_plan_of_a_continued_run_counts_both_ways() -> None:
    lines = shown(conversations_plan(), 80)
    assert "steps      +2,488: 2,488 -> 4,976" in lines
    assert "this file adds 2,488 steps, reaching global step 4,976" in words_of(lines)


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        ("constant", "then constant · "),
        ("wsd", "then constant, in the last 482 steps down to 0"),
        ("cosine", "then cosine to 0"),
    ],
)
def test_the_plan_says_how_the_learning_rate_goes(schedule: Any, said: str) -> None:
    plan = conversations_plan()
    plan = replace(plan, learning=replace(plan.learning, schedule=schedule))
    assert said in words_of(shown(plan, 80))


def test_the_plan_says_what_an_optimizer_leaves_to_another() -> None:
    plan = conversations_plan()
    assert "AdamW for all but" not in words_of(shown(plan, 80))
    plan = replace(plan, learning=replace(plan.learning, optim="muon"))
    said = "AdamW for all but matrices of hidden layers"
    assert said in words_of(shown(plan, 80))


def test_what_was_taken_over_is_one_line() -> None:
    plan = conversations_plan()
    assert not any(line.startswith("inherited") for line in shown(plan, 80))
    taken = (
        Choice("max_length", 64, "run first", inherited="planner"),
        Choice("learning_rate", 3e-3, "run first", inherited="person"),
        Choice("batch_size", 1, "run first", "adjusted: few rows", asked=4, inherited="person"),
    )
    lines = shown(replace(plan, settings=taken), 80)
    assert "inherited  max_length 64 · learning_rate 3e-3 · as in run first" in lines


@pytest.mark.parametrize("sources", [("a.jsonl", "b.jsonl"), ("-",), ("s3://bucket/a.jsonl",)])
def test_what_is_not_one_file_is_called_data(sources: tuple[str, ...]) -> None:
    plan = conversations_plan()
    plan = replace(plan, data=replace(plan.data, sources=sources))
    said = words_of(shown(plan, 80))
    assert "this data adds 2,488 steps, reaching global step 4,976" in said


def test_a_new_run_needs_no_sentence_about_global_steps() -> None:
    said = words_of(shown(text_plan(), 80))
    assert "+3: 0 -> 3 · 3 epochs of 1 step" in said
    assert "reaching global step" not in said


def test_the_ledger_adds_up_on_the_screen() -> None:
    lines = shown(conversations_plan(), 100)
    assert "data       data/support-b.jsonl · 8.4 MB · 20,012 conversations read" in lines
    said = words_of(lines)
    assert "12 rejected (9 not JSON, 3 no trained token) · 20,000 accepted" in said
    assert "20,000 = 100 held out + 19,900 planned" in said
    assert "13 planned · each trained 3 times, 39 in total" in words_of(shown(text_plan(), 80))


def test_savings_say_what_they_save() -> None:
    plan = conversations_plan()
    saved = replace(plan.time, saved=WorkSaved(padding=0.97, untrained=0.31, shared=0.62))
    plan = replace(plan, data=replace(plan.data, shared=0.71), time=saved)
    said = words_of(shown(plan, 80))
    assert (
        "savings padding 97% to max_length, 41% to the batch's longest row: saves 97% of the work"
        " · untrained 40%: saves 31% shared prefixes 71%: saves 62%"
    ) in said


def test_prefixes_that_are_not_shared_say_why() -> None:
    plan = conversations_plan()
    why = "attention_dropout 0.1 is random for each row"
    plan = replace(plan, data=replace(plan.data, shared=0.71, not_shared=why))
    said = words_of(shown(plan, 80))
    assert f"shared prefixes 71%, computed for each row: {why}" in said


def test_a_text_saves_padding_alone() -> None:
    plan = text_plan()
    plan = replace(plan, time=replace(plan.time, saved=WorkSaved(padding=0.04)))
    said = words_of(shown(plan, 80))
    assert (
        "savings padding 4.0% to max_length, 4.0% to the batch's longest row: saves 4.0% of the "
        "work · untrained 0%: saves 0% shared prefixes 0%: saves 0%"
    ) in said


def test_a_time_nobody_measured_is_not_made_up() -> None:
    assert "time       not measured yet" in "\n".join(shown(text_plan(), 80))


def test_numbers_of_workers_that_were_chosen_from_are_shown_with_their_speeds() -> None:
    plan = text_plan()
    speeds = (WorkerSpeed(1, 2, 1000.0), WorkerSpeed(2, 1, None))
    machine = replace(plan.machine, workers=1, alternatives=speeds)
    nproc = Choice("nproc", 1, "auto", "the only one measured here")
    plan = replace(plan, machine=machine, settings=(*plan.settings, nproc))
    said = words_of(shown(plan, 80))
    assert "workers 1: the only one measured here" in said
    assert f"1 x 2 threads: {1000 * plan.data.trained_tokens / plan.data.tokens:,.0f} tok/s" in said
    assert "2 x 1 thread: not measured, a run with --nproc 2 does" in said


def test_the_estimated_speed_counts_trained_tokens_like_the_step_lines() -> None:
    # 4,589 tokens per second, of which 410 in 680 are trained
    assert "time       about 12 min · 2,767 tok/s" in shown(conversations_plan(), 80)


@pytest.mark.parametrize("deterministic", [True, False])
def test_deterministic_kernels_are_shown_where_they_were_asked_for(deterministic: bool) -> None:
    plan = conversations_plan()
    plan = replace(plan, machine=replace(plan.machine, deterministic=deterministic))
    assert ("deterministic kernels" in words_of(shown(plan, 60))) == deterministic


def test_memory_shows_what_matters_of_it_largest_first() -> None:
    said = words_of(shown(conversations_plan(), 100))
    parts = "2.8 GB peak · weights 2.0 GB · process 412.0 MB · activations 310.0 MB"
    assert parts in said
    assert "gradients" not in said


def test_settings_say_where_they_come_from() -> None:
    lines = shown(conversations_plan(), 100)
    assert "batch_size     8               --bs" in lines
    assert "learning_rate  2e-4            auto: LoRA" in lines
    assert "4 more settings at the default (--verbose shows all)" in lines
    assert not any(line.startswith("bf16") for line in lines)


def test_verbose_shows_every_setting() -> None:
    lines = shown(conversations_plan(), 100, verbose=True)
    names = [line.split()[0] for line in lines if line]
    for choice in conversations_plan().settings:
        assert choice.name in names
    assert "--verbose" not in words_of(lines)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "none"), (True, "true"), (1500, "1,500"), (1e-8, "1e-8"), (0.1, "0.1"), ((), "none")],
)
def test_values_read_as_they_are_written(value: object, text: str) -> None:
    plan = text_plan(settings=(Choice("x", value, "--x"),))
    assert f"x  {text}  --x" in shown(plan, 80)


def test_findings_come_last_in_four_parts_with_a_mark() -> None:
    lines = shown(text_plan(), 80)
    start = lines.index("~ batch_size 32 -> 12, so that there is a step to take")
    assert lines[start + 1 : start + 4] == [
        "  have  1,598 tokens, 12 rows of max_length 128",
        "  need  32 rows for one step of batch_size 32",
        "  try   --batch-size 4   3 steps of 4 rows",
    ]
    assert lines[start + 5].startswith("! 1,598 tokens for 3.0 M weights")


def test_what_is_as_it_should_be_is_not_mentioned() -> None:
    assert "the disk takes" not in words_of(shown(conversations_plan(), 80))


def test_data_cannot_write_on_the_screen_by_itself() -> None:
    plan = text_plan()
    plan = replace(plan, data=replace(plan.data, marked_example="«\x1b]0;owned\x07\x1b[2J»\nnext"))
    lines = shown(plan, 80)
    assert all(line.isprintable() for line in lines)
    assert "«�]0;owned��[2J»↵next" in words_of(lines)


@pytest.mark.parametrize(
    ("duplicates", "dropped", "shown_as"),
    [
        (3, 0, "3 duplicates (--drop-duplicates trains one of each)"),
        (1, 0, "1 duplicate (--drop-duplicates trains one of each)"),
        (3, 3, ""),
        (0, 0, ""),
    ],
)
def test_duplicates_come_with_the_flag_that_drops_them(
    duplicates: int, dropped: int, shown_as: str
) -> None:
    plan = conversations_plan()
    records = replace(plan.data.records, rejected={"a duplicate": dropped} if dropped else {})
    plan = replace(plan, data=replace(plan.data, duplicates=duplicates, records=records))
    screen = " ".join(" ".join(shown(plan, 120)).split())
    assert ("--drop-duplicates" in screen) is bool(shown_as)
    assert shown_as in screen


def test_what_is_not_read_is_named_with_the_reason() -> None:
    plan = text_plan()
    assert not any(line.startswith("not read") for line in shown(plan, 80))
    passed = (
        PassedOver("documentation beside data", 1, ("README.md",)),
        PassedOver("hidden", 7, (".a", ".b", ".c", ".d")),
    )
    lines = shown(replace(plan, data=replace(plan.data, passed_over=passed)), 80)
    at = next(n for n, line in enumerate(lines) if line.startswith("not read"))
    assert "documentation beside data: README.md" in lines[at]
    assert "hidden: .a, .b, .c and 4 more" in words_of(lines)


def test_what_is_done_about_a_stall_is_shown_where_it_was_chosen() -> None:
    chosen = conversations_plan(on_stall="stop")
    assert "on a stall: stop" in words_of(texts(plan_lines(chosen, 100)))
    assert "on a stall" not in words_of(texts(plan_lines(conversations_plan(), 100)))
