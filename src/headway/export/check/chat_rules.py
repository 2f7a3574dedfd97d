"""Chat of a model: a template that renders, and writes an end at which generation stops."""

from collections.abc import Iterator
from dataclasses import dataclass

from headway.base.errors import Cause, Finding, Refusal, Remedy
from headway.data.examples.chat import Template
from headway.data.examples.jinja import RenderError
from headway.data.examples.tokenizer import Tokenizer
from headway.export.check.folder_facts import TEMPLATE, ModelFacts
from headway.export.check.rules.fixes import copy_from_base, export_again
from headway.export.reading.end_tokens import id_behind_answer

QUESTIONS = ("Hi! Who are you?", "What is the capital of France?", "Name a color.")
ANSWER = "Quite something"


@dataclass(frozen=True)
class Prompt:
    """A question as the model reads it, and how an answer to it ends.

    Attributes:
        ids: up to where the answer begins.
        answered: the same with an answer, up to its end token; empty if the template writes none.
        end_id: of that end token.
    """

    ids: tuple[int, ...]
    answered: tuple[int, ...] = ()
    end_id: int = -1


def chat_findings(facts: ModelFacts, tokenizer: Tokenizer) -> Iterator[Finding]:
    """What is wrong with the chat template; nothing if there is none."""
    if tokenizer.chat_template is None:
        return
    try:
        template = Template(tokenizer)
        text = template.render(_turns(QUESTIONS[0]), add_generation_prompt=True)
    except RenderError as error:
        yield _template(facts, f"it fails on one question: {error.reason}: {error.detail}")
        return
    except Refusal as refusal:
        yield _template(facts, refusal.have)
        return
    if QUESTIONS[0] not in text:
        yield _template(facts, "it leaves the question out")
    behind = id_behind_answer(tokenizer)
    ends = facts.end_ids or (facts.base.end_ids if facts.base else ())
    if behind is not None and ends and behind not in ends:
        token = tokenizer.token_of(behind)
        yield Finding(
            "refused",
            f"{facts.path}: answers end with {token}, and generation does not stop there",
            have=f"the chat template writes {token} ({behind}); eos_token_id {list(ends)}",
            need=f"{behind} among the eos_token_id: without it, an answer never ends",
            remedies=(export_again(facts, "writes every end token into its generation config"),),
            cause=Cause.END_TOKEN_MISSING,
        )


def chat_prompts(tokenizer: Tokenizer) -> list[Prompt]:
    """Some questions as the model reads them; none without a template that renders."""
    if tokenizer.chat_template is None:
        return []
    found: list[Prompt] = []
    behind = id_behind_answer(tokenizer)
    for question in QUESTIONS:
        try:
            template = Template(tokenizer)
            asked = template.render(_turns(question), add_generation_prompt=True)
            whole = template.render([*_turns(question), {"role": "assistant", "content": ANSWER}])
        except (RenderError, Refusal):
            continue
        until, _, _ = whole.rpartition(ANSWER)
        ids, answered = (tuple(one.tolist()) for one in tokenizer.encode([asked, until + ANSWER]))
        has_end = behind is not None
        found.append(Prompt(ids, answered if has_end else (), behind if has_end else -1))
    return found


def _turns(question: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}]


def _template(facts: ModelFacts, have: str) -> Finding:
    return Finding(
        "refused",
        f"the chat template of {facts.path} cannot be used",
        have=have,
        need="a template that renders a question",
        remedies=copy_from_base(facts, TEMPLATE, "that of its base model")
        or (Remedy("copy the file again", "from where the model came from"),),
        cause=Cause.TEMPLATE_INVALID,
    )
