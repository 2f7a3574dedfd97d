"""A run that resumes on another day, without its cache: its rows are what they were."""

import json
import shutil
import signal
from pathlib import Path

import pytest
from tests.helpers import save_model

from headway.data.survey.store import Store

from .conftest import Headway, until

DATED = (
    "{{ 'Today is ' ~ strftime_now('%d %B %Y') ~ '. ' }}"
    "{% for m in messages %}{{ m.role ~ ': ' }}{% generation %}"
    "{{ m.content ~ eos_token }}{% endgeneration %}{% endfor %}"
)
# What any process believes today to be.
DAY = """
import datetime
class Day(datetime.date):
    @classmethod
    def today(cls):
        return cls.fromisoformat({day!r})
datetime.date = Day
"""


def on(headway: Headway, day: str) -> dict[str, str]:
    """An environment in which it is that day."""
    folder = headway.here / f"day-{day}"
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(DAY.format(day=day))
    return {"PYTHONPATH": str(folder)}


@pytest.fixture
def chats(headway: Headway) -> list[str]:
    """What is typed to train a chat model whose template writes the date."""
    save_model(headway.here / "model")
    (headway.here / "model" / "chat_template.jinja").write_text(DATED)
    rows = [
        [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": f"It is {n}."}]
        for n in range(40)
    ]
    headway.write("chats.jsonl", "".join(json.dumps({"messages": row}) + "\n" for row in rows))
    return ["train", "chats.jsonl", "--model", "model", "--batch-size", "4", "--max-steps", "60"]


def test_rows_are_rendered_with_the_day_the_run_began(headway: Headway, chats: list[str]) -> None:
    headway.environment["XDG_CACHE_HOME"] = str(headway.here / "cache")
    process = headway.start(*chats, **on(headway, "2026-11-29"))
    until(lambda: any(e["event"] == "step_done" for e in headway.events("chats")))
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 75
    shutil.rmtree(headway.here / "cache")
    headway.environment["XDG_CACHE_HOME"] = str(headway.here / "another-cache")
    again = headway(*chats, **on(headway, "2027-01-01"))
    assert again.code == 0, again.err
    receipt = headway.receipt("chats")
    assert (receipt["attempts"], receipt["contract"]["verdict"]) == (2, "kept")
    store = Store(Path(headway.settled("chats")["store"]))
    assert store.survey.template_day == headway.plan("chats")["data"]["template_day"]
    assert "Today is 29 November 2026." in store.survey.marked_example
    assert "already trained" in headway(*chats, **on(headway, "2027-01-02")).out
    fresh = headway("plan", *chats[1:], "--fresh", **on(headway, "2027-01-02"))
    assert "Today is 02 January 2027." in fresh.out
