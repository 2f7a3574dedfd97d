from dataclasses import replace

import pytest
from tests.ui.fixtures import WIDTHS, receipt, texts, words_of

from headway.base.host.contention import OtherWork
from headway.runs.log_facts import ReceiptStalls
from headway.runs.receipt import EstimatedActual, Judgment, Receipt
from headway.ui.show_receipt import closing_lines, receipt_lines
from headway.ui.text_layout import cells


def shown(value: Receipt, width: int) -> list[str]:
    return texts(receipt_lines(value, width))


@pytest.mark.parametrize("width", WIDTHS)
def test_a_receipt_fits_any_width(width: int) -> None:
    lines = shown(receipt(), width)
    lines += texts(closing_lines(receipt(), width))
    assert max(map(cells, lines)) <= width


def test_the_closing_line_is_apart_and_in_the_color_of_the_contract() -> None:
    assert receipt().line not in words_of(shown(receipt(), 40))
    folded = closing_lines(receipt(), 40)
    assert len(folded) > 1
    assert words_of(texts(folded)) == receipt().line
    assert {style for line in folded for _, style in line.pieces} == {"green"}
    broken = receipt(contract=Judgment("broken", ("it stopped",)))
    assert closing_lines(broken, 120)[0].pieces == ((receipt().line, "red"),)


def test_a_receipt_shows_estimates_beside_what_came() -> None:
    lines = shown(receipt(), 80)
    start = lines.index("           estimated  actual")
    assert lines[start + 1 : start + 4] == [
        "time          12 min  12 min",
        "memory        2.8 GB  2.6 GB",
        "padding           0%      0%",
    ]


@pytest.mark.parametrize(
    ("watching", "shown_as"), [(0.25, "watching under 0.1%"), (7.312, "watching 1.0%"), (None, "")]
)
def test_what_watching_took_is_a_share_of_the_time(watching: float | None, shown_as: str) -> None:
    time = replace(receipt().time, watching=watching)
    words = " ".join(words_of(shown(receipt(time=time), 80)).split())
    assert shown_as in words
    assert ("watching" in words) == bool(shown_as)


def test_what_nobody_estimated_stays_open() -> None:
    against = replace(receipt().plan_against_actual, seconds=EstimatedActual(None, 3.2))
    lines = shown(receipt(plan_against_actual=against), 80)
    assert "time               -   3.2 s" in lines


def test_a_receipt_shows_losses_tensors_and_rows() -> None:
    said = words_of(shown(receipt(), 100))
    assert "19,900 of 19,900 planned rows trained · 0 missing · 0 repeated" in said
    assert "2.41 -> 1.37 on 64 probed training rows (± 0.04)" in said
    assert "2.44 -> 1.52 on 100 held-out rows (± 0.03)" in said
    assert "336 of 336 changed" in said
    assert "2,488 of 2,488 · global 2,488 -> 4,976" in said


def test_a_broken_contract_says_why() -> None:
    broken = Judgment("broken", ("2 of 336 trainable tensors did not move",))
    lines = shown(receipt(contract=broken), 80)
    assert "contract   broken · 2 of 336 trainable tensors did not move" in lines


def test_a_receipt_without_measurements_has_no_empty_labels() -> None:
    value = receipt()
    facts = replace(
        value.learning_facts,
        train_probe=None,
        held_out=None,
        loss_first=None,
        loss_last=None,
        tensors=None,
    )
    lines = shown(replace(value, learning_facts=facts, checkpoint=None), 80)
    assert not any(line.startswith(("loss", "tensors")) for line in lines)
    assert "saved      nothing" in lines


def test_a_busy_machine_is_named_and_a_quiet_one_is_not() -> None:
    value = receipt()
    assert not any(line.startswith("slowed by") for line in shown(value, 80))
    busy = OtherWork(9.0, 2, other_cores=1.4, busy=1.0, steal=0.2, throttled=0.0)
    lines = shown(replace(value, time=replace(value.time, other_work=busy)), 120)
    assert (
        "slowed by  other processes used 1.4 of 2 cores · "
        "the host gave 20% of the cores' time to others (steal)"
    ) in lines


@pytest.mark.parametrize(
    ("stalls", "line"),
    [
        (ReceiptStalls(1, 14.0, {"deadlock": 1}, 0), "stalls        1 · 14 s · deadlock"),
        (
            ReceiptStalls(3, 90.0, {"deadlock": 2, "disk_full": 1}, 2),
            "3 · the longest 1 min 30 s · deadlock 2 times · disk full · 2 restarts",
        ),
    ],
)
def test_stalls_are_named_with_their_causes(stalls: ReceiptStalls, line: str) -> None:
    told = words_of(texts(receipt_lines(receipt(stalls=stalls), 100)))
    assert " ".join(line.split()) in told
    assert "stalls" not in words_of(texts(receipt_lines(receipt(), 100)))
