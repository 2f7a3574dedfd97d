"""Hostile chat templates end within their budget, in a refusal that names template and record."""

import time
from pathlib import Path

import pytest
from tests.boundaries.odd_models import CHATS, TEMPLATES

from headway.base.errors import Cause, Refusal, UsageError
from headway.base.foreign.budget import Budget
from headway.data.examples import tokenizer as tokenizers
from headway.data.examples.chat import Rendered, Template
from headway.data.formats.records import Record, Rejected

# What a limit interrupts may be a destructor: Python reports what is raised there, and drops it.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

BUDGET = Budget(memory_bytes=64_000_000, cpu_s=0.2)
RECORD = Record("chats.jsonl", 7, messages=tuple(CHATS[0]["messages"]))
TOO_MUCH = {
    name for name in TEMPLATES if name.startswith(("multiplies", "pads", "formats", "never"))
}
TOO_MUCH |= {"doubles a string", "doubles a list", "indents by much", "powers of powers"}
TOO_DEEP = {name for name in TEMPLATES if name.endswith("deeply")} | {
    "a sum of many",
    "filters in a row",
}


def rendered(source: str) -> Rendered | Rejected | Refusal:
    words = tokenizers.byte_level()
    try:
        template = Template(words, source or " ", budget=BUDGET)
        return template.render_record(RECORD, assistant_only=True)
    except Refusal as refusal:
        return refusal


@pytest.mark.parametrize("name", TEMPLATES)
def test_each_ends_soon_as_text_as_a_counted_record_or_as_a_refusal(name: str) -> None:
    began_s = time.process_time()
    end = rendered(TEMPLATES[name])
    assert time.process_time() - began_s < 5
    if name in TOO_MUCH | TOO_DEEP:
        assert isinstance(end, UsageError)
        assert end.cause == Cause.TEMPLATE_INVALID
        assert "chat template" in end.what
        assert end.have
        assert end.remedies
    if name in TOO_MUCH:
        assert isinstance(end, UsageError)
        assert "chats.jsonl:7" in end.have or "to be compiled" in end.have
        assert "more than 64.0 MB" in end.have or "more than 0.2 s" in end.have


def test_a_template_within_its_limits_is_not_touched() -> None:
    end = rendered("{% for m in messages %}<{{ m.content }}>{% endfor %}")
    assert isinstance(end, Rendered)
    assert end.text == "<Hi><Hello!>"


def test_the_file_of_a_template_is_named(good: Path, tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(good, tmp_path / "odd"))
    (folder / "chat_template.jinja").write_text("{{ 'a' * 10000000000 }}")
    with pytest.raises(UsageError) as caught:
        Template(tokenizers.load(folder), budget=BUDGET).render_record(RECORD, assistant_only=True)
    assert caught.value.what == f"{folder}: the chat template in chat_template.jinja cannot be used"
