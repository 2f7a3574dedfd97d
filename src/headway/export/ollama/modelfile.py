"""Modelfile of Ollama: which file, where answers end, how much context, which instructions."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from headway.base.errors import Cause, Remedy, UsageError

NAME = "Modelfile"
_MOST_CONTEXT = 8192  # tokens; what a person did not ask for must fit in usual machines
_PLAIN_TEMPLATE = "{{ .Prompt }}"
_QUOTES = '"""'
_MODEL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")


@dataclass(frozen=True)
class Modelfile:
    """What Ollama is told about a model.

    Attributes:
        file: name of the GGUF file beside it.
        stops: texts that end an answer.
        num_ctx: tokens of context.
        system: instructions before every conversation; "" for none.
        template: in Ollama's own language; "" where the GGUF file has one.
    """

    file: str
    stops: tuple[str, ...]
    num_ctx: int
    system: str = ""
    template: str = ""

    def text(self) -> str:
        """The file."""
        lines = [f"FROM ./{self.file}"]
        if self.template:
            lines.append(f"TEMPLATE {_quoted(self.template)}")
        if self.system:
            lines.append(f"SYSTEM {_quoted(self.system)}")
        lines.append(f"PARAMETER num_ctx {self.num_ctx}")
        lines += [f"PARAMETER stop {_quoted(stop)}" for stop in self.stops]
        return "\n".join(lines) + "\n"


def modelfile_of(
    file: str,
    *,
    end_tokens: Sequence[str],
    context: int,
    has_template: bool,
    num_ctx: int = 0,
    system: str = "",
) -> Modelfile:
    """What Ollama must be told about a file.

    Args:
        file: name of the GGUF file.
        end_tokens: every token that ends an answer.
        context: tokens that the file says.
        has_template: the file has a chat template.
        num_ctx: tokens that a person asked for; 0 for none in particular.
        system: instructions that a person gave.

    Raises:
        UsageError: the model has less context, or no place for instructions.
    """
    if num_ctx > context:
        raise UsageError(
            f"--num-ctx {num_ctx:,} is more than the model has",
            cause=Cause.INVALID_VALUE,
            have=f"a model for {context:,} tokens",
            need=f"1 to {context:,}",
            remedies=(Remedy(f"--num-ctx {context}"),),
        )
    if _QUOTES in system:
        raise UsageError(
            f"--system has {_QUOTES}, with which a Modelfile ends a text",
            cause=Cause.INVALID_VALUE,
            have=repr(system[:80]),
            need=f"a text without {_QUOTES}",
            remedies=(Remedy("leave out --system", "the model's own instructions stay"),),
        )
    if system and not has_template:
        raise UsageError(
            "--system needs a chat template, and the model has none",
            cause=Cause.CONTRADICTION,
            have="a model that continues texts",
            need="a model that was trained on conversations",
            remedies=(Remedy("leave out --system"),),
        )
    return Modelfile(
        file=file,
        stops=tuple(dict.fromkeys(token for token in end_tokens if token.strip())),
        num_ctx=num_ctx or min(context, _MOST_CONTEXT),
        system=system,
        template="" if has_template else _PLAIN_TEMPLATE,
    )


def check_model_name(name: str) -> str:
    """Check that Ollama takes a name for a model; returns it.

    Raises:
        UsageError: it does not.
    """
    if _MODEL_NAME.fullmatch(name):
        return name
    better = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.")[:80]
    raise UsageError(
        f"--name: Ollama takes no model of the name {name[:80]!r}",
        cause=Cause.INVALID_VALUE,
        have=repr(name[:80]),
        need="up to 80 letters, digits, and _ . - behind the first",
        remedies=(Remedy(f"--name {better or 'my-model'}"),),
    )


def _quoted(text: str) -> str:
    """A value of a Modelfile, which has no escapes."""
    if '"' in text or "\n" in text:
        return f"{_QUOTES}{text}{_QUOTES}"
    return f'"{text}"'
