"""Plan and receipt in an interpreter and in a notebook: short, and escaped."""

from dataclasses import replace
from html.parser import HTMLParser

from tests.ui.fixtures import conversations_plan, receipt

from headway.base.errors import Finding
from headway.runs.facts import html_table


class Cells(HTMLParser):
    """The texts of a table's cells, and the tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_a_plan_is_one_line() -> None:
    plan = conversations_plan()
    line = repr(plan)
    assert line.startswith(f"<Plan {plan.name}: ")
    assert line.endswith(">")
    assert len(line) <= 160
    assert "\n" not in line
    assert f"{plan.steps.num:,} steps of {plan.steps.batch_size} rows" in line
    assert repr([plan]) == f"[{line}]"


def test_a_receipt_is_one_line() -> None:
    one = receipt()
    assert repr(one) == f"<Receipt {one.run} {one.outcome} · {one.line}>"


def test_in_a_notebook_they_are_tables() -> None:
    plan = Cells(conversations_plan()._repr_html_())
    assert plan.tags[:3] == ["table", "caption", "tbody"]
    assert {"data", "rows", "tokens", "model", "steps", "memory", "time"} <= set(plan.texts)
    one = receipt()
    shown = Cells(one._repr_html_())
    assert one.contract.verdict in " ".join(shown.texts)
    assert {"contract", "learning", "rows", "steps", "saved"} <= set(shown.texts)


def test_what_came_from_a_file_is_text_and_not_markup() -> None:
    evil = "<script>alert(1)</script>&\"'"
    plan = replace(conversations_plan(), name=evil, findings=(Finding("warning", evil),))
    for page in (plan._repr_html_(), html_table(evil, [(evil, evil)])):
        shown = Cells(page)
        assert "script" not in shown.tags
        assert evil in shown.texts
