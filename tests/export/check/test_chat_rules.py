"""A chat template is rendered: it has the question in it, and an end at which generation stops."""

from pathlib import Path

import pytest
from tests.export.folders import DOCUMENT_END, TURN_END, change, model_folder

from headway.base.errors import Cause
from headway.data.examples import tokenizer as tokenizers
from headway.data.examples.chatml import CHATML
from headway.export.check.chat_rules import ANSWER, QUESTIONS, chat_findings, chat_prompts
from headway.export.check.folder_facts import read_folder


def found(folder: Path) -> list[Cause | None]:
    findings = chat_findings(read_folder(folder), tokenizers.load(folder))
    return [finding.cause for finding in findings]


def with_template(tmp_path: Path, template: str) -> Path:
    folder = model_folder(tmp_path / "model")
    (folder / "chat_template.jinja").write_text(template)
    return folder


@pytest.mark.parametrize(
    ("template", "cause"),
    [
        (CHATML, []),
        ("{{ raise_exception('no system') }}", [Cause.TEMPLATE_INVALID]),
        ("{% if %}", [Cause.TEMPLATE_INVALID]),
        ("{{ messages[0].role }}", [Cause.TEMPLATE_INVALID]),
        ("{{ 'x' * 10000000000 }}", [Cause.TEMPLATE_INVALID]),
        ("{% for m in messages %}{{ m.content }}{% endfor %}", []),  # writes no end
    ],
)
def test_a_template_that_cannot_be_used_is_told(
    tmp_path: Path, template: str, cause: list[Cause]
) -> None:
    assert found(with_template(tmp_path, template)) == cause


def test_t07_an_end_that_generation_does_not_stop_at_is_told(tmp_path: Path) -> None:
    folder = with_template(tmp_path, CHATML)
    for name in ("generation_config.json", "config.json"):
        change(folder / name, eos_token_id=DOCUMENT_END)
    assert found(folder) == [Cause.END_TOKEN_MISSING]


def test_prompts_end_where_an_answer_begins_and_where_it_ends(tmp_path: Path) -> None:
    folder = with_template(tmp_path, CHATML)
    tokenizer = tokenizers.load(folder)
    prompts = chat_prompts(tokenizer)
    assert len(prompts) == len(QUESTIONS)
    for prompt, question in zip(prompts, QUESTIONS, strict=True):
        assert tokenizer.decode(prompt.ids).endswith(f"{question}\nassistant\n")
        assert tokenizer.decode(prompt.answered).endswith(ANSWER)
        assert prompt.end_id == TURN_END


def test_without_a_template_there_is_no_chat(tmp_path: Path) -> None:
    tokenizer = tokenizers.load(model_folder(tmp_path / "model", chat=False))
    assert chat_prompts(tokenizer) == []
    assert chat_prompts(tokenizer.with_template("{% if %}")) == []
