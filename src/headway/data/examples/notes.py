"""Example notes: what is worth counting about records that are trained, as shown in the plan."""

from enum import StrEnum


class ExampleNote(StrEnum):
    """Something worth counting; the value is shown to people after the count."""

    # answers that are not trained, and why
    CONTEXT_ONLY = "answers used as context only: the template rewrites them in later turns"
    REASONING_DROPPED = (
        "answers used as context only: the template drops their reasoning in later turns"
    )
    OTHER_END = "answers used as context only: the template ends them differently in later turns"
    EARLIER_REWRITTEN = (
        "answers used as context only: the template rewrites the turns before them later"
    )
    NOT_ALONE = "answers used as context only: the template fails on the conversation up to them"

    # answers that are trained
    UNPROMPTED = "answers that do not start with the template's generation prompt"
    WITHOUT_BLOCK = "answers trained without the empty reasoning block, as later turns show them"
    EMPTY = "empty answers, trained as they are"
    WITHOUT_END = "answers without an end token: the template writes none after them"

    # parts of a conversation that the template does not write
    TOOLS_LOST = "conversations whose tools the template does not write"
    CALLS_LOST = "answers whose tool calls the template does not write"
    REASONING_LOST = "answers whose reasoning the template does not write"
    CONTENT_LOST = "answers whose text next to a tool call the template does not write"
    SYSTEM_LOST = "system messages that the template does not write"
    RESULTS_LOST = "tool results that the template does not write"

    # special tokens that a text already has
    MARKERS_IN_MESSAGES = "conversations with special tokens of the tokenizer in a message"
    MARKERS_IN_TEXT = (
        "texts with special tokens of the tokenizer in them "
        "(--add-special-tokens never adds no others)"
    )
    BEGINS_WITH_BOS = (
        "texts that begin with the BOS token: no second one is added "
        "(--add-special-tokens always adds it)"
    )
    ENDS_WITH_END = (
        "texts that end with a special token: no end token is added "
        "(--add-special-tokens always adds it)"
    )


LOST = (
    ExampleNote.TOOLS_LOST,
    ExampleNote.CALLS_LOST,
    ExampleNote.REASONING_LOST,
    ExampleNote.CONTENT_LOST,
    ExampleNote.SYSTEM_LOST,
    ExampleNote.RESULTS_LOST,
)
