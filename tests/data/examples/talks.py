"""Conversations, templates of several kinds, and a tokenizer that knows their special tokens."""

from typing import Any

import numpy as np
import tokenizers

from headway.data.examples.chat import Template
from headway.data.examples.examples import Example, chat_examples
from headway.data.examples.tokenizer import Tokenizer, byte_level
from headway.data.formats.records import Record, Rejected

SPECIAL = (
    "<s>", "</s>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>", "<|observation|>",
    "<|header|>", "<|/header|>", "<|eot|>", "<|tool|>",
)  # fmt: skip

Messages = list[dict[str, Any]]


def user(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


def system(content: str) -> dict[str, Any]:
    return {"role": "system", "content": content}


def result(content: str) -> dict[str, Any]:
    return {"role": "tool", "content": content}


def assistant(content: str | None, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def call(content: str | None = "", name: str = "weather", **more: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": {"city": "Rome"}}
    return assistant(content, tool_calls=[{"type": "function", "function": function}], **more)


TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
THREE_TURNS = [user("one?"), assistant("1 one"), user("two?"), assistant("2 two"),
               user("three?"), assistant("3 three")]  # fmt: skip
CALLING = [user("weather in Rome?"), call(), result("21"), assistant("21 degrees.")]

# Each turn ends in <|end|>, and the conversation in the end token, as in Phi-3.5.
ENDS_ONCE = """\
{% for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content + '<|end|>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}
"""
# A turn ends where the next one begins, as in GLM.
NEXT_ENDS = """\
{{- bos_token }}
{%- for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}
"""
# Reasoning since the last question; an empty block in the last answer; tool calls; as in Qwen3.
THINKS = """\
{%- set ns = namespace(last=0) %}
{%- for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}
{%- endfor %}
{%- for m in messages %}
    {%- if m.role == 'assistant' %}
        {{- '<|assistant|>\\n' }}
        {%- if loop.index0 > ns.last and (loop.last or m.reasoning_content) %}
            {{- '<think>\\n' + (m.reasoning_content or '') + '\\n</think>\\n\\n' }}
        {%- endif %}
        {{- m.content or '' }}
        {%- for call in m.tool_calls or [] %}
            {{- '<tool_call>\\n' + call.function | tojson + '\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|end|>\\n' }}
    {%- else %}{{ '<|' + m.role + '|>\\n' + m.content + '<|end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}
"""
# No place for tools, calls and reasoning, as in Llama 3.
PLAIN = """\
{{- bos_token }}
{%- for m in messages %}
    {{- '<|header|>' + m.role + '<|/header|>\\n\\n' + (m.content or '') | trim + '<|eot|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|header|>assistant<|/header|>\\n\\n' }}{% endif %}
"""


def make_words() -> Tokenizer:
    """A token for each byte and for each special token."""
    files = dict(byte_level().files)
    backend = tokenizers.Tokenizer.from_str(files["tokenizer.json"].decode())
    backend.add_special_tokens(list(SPECIAL))
    files["tokenizer.json"] = backend.to_str().encode()
    files["tokenizer_config.json"] = b'{"bos_token": "<s>", "eos_token": "</s>"}'
    return Tokenizer(files, "words")


WORDS = make_words()


def make(
    source: str,
    messages: Messages,
    *,
    tools: tuple[dict[str, Any], ...] | None = None,
    assistant_only: bool = True,
    keep_empty_answers: bool = False,
) -> Example | Rejected:
    """The example of a conversation in a template."""
    (made,) = chat_examples(
        [Record("f", 1, messages=tuple(messages), tools=tools)],
        WORDS,
        Template(WORDS, source),
        assistant_only=assistant_only,
        keep_empty_answers=keep_empty_answers,
    )
    return made


def trained(made: Example | Rejected) -> list[str]:
    """The stretches of trained tokens, as text."""
    assert isinstance(made, Example), made
    edges = np.flatnonzero(np.diff([0, *made.trained.astype(int), 0]))
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return [WORDS.decode(made.ids[a:b], special=True) for a, b in pairs]


def end_tokens(made: Example | Rejected) -> set[str | None]:
    """The tokens that end what is trained."""
    assert isinstance(made, Example), made
    return {WORDS.token_of(one) for one in made.ends}
