"""Creation of a model in Ollama, and one question to it; the two commands where none runs."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from headway.base.errors import Cause, Finding, Remedy
from headway.export.ollama.client import Ollama, OllamaError
from headway.export.ollama.modelfile import NAME, Modelfile

QUESTION = "What is the capital of France?"
_SHOWN_CHARACTERS = 200


@dataclass(frozen=True)
class Creation:
    """What came of it.

    Attributes:
        created: the model is in Ollama.
        finding: for people.
    """

    created: bool
    finding: Finding


def create_in_ollama(
    folder: Path,
    name: str,
    modelfile: Modelfile,
    address: str,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> Creation:
    """Make the model in the Ollama that runs here, and ask it a question.

    Nothing is an error: the files are there in any case, and the commands to go on.

    Args:
        folder: with the GGUF file and the Modelfile.
        name: of the model.
        modelfile: what Ollama is told.
        address: where it listens.
        on_bytes: called with the bytes that were sent so far.
    """
    ollama = Ollama(address, on_bytes)
    version = ollama.version()
    if not version:
        return Creation(created=False, finding=_commands(folder, name, address))
    try:
        ollama.create(name, modelfile, folder)
        answer = ollama.ask(name, QUESTION)
    except (OllamaError, OSError) as error:
        return Creation(created=False, finding=_failed(folder, name, version, str(error)))
    said = " ".join(answer.text.split())[:_SHOWN_CHARACTERS]
    if not answer.stopped:
        return Creation(created=True, finding=_goes_on(name, said))
    finding = Finding(
        "ok",
        f"{name} is in Ollama {version}, and answers",
        have=f"{QUESTION} - {said}",
        remedies=(Remedy(f"ollama run {name}", "talk to it"),),
    )
    return Creation(created=True, finding=finding)


def _commands(folder: Path, name: str, address: str) -> Finding:
    return Finding(
        "ok",
        "no Ollama runs here",
        have=f"no answer at {address}",
        need="these two commands, where one does",
        remedies=_remedies(folder, name),
    )


def _failed(folder: Path, name: str, version: str, said: str) -> Finding:
    return Finding(
        "warning",
        f"Ollama {version} did not take the model",
        have=said,
        need="a model that it creates and that answers",
        remedies=_remedies(folder, name),
        cause=Cause.BAD_ANSWER,
    )


def _goes_on(name: str, said: str) -> Finding:
    return Finding(
        "warning",
        f"{name} does not stop by itself in Ollama",
        have=said,
        need="an answer that ends: one that was trained to",
        remedies=(
            Remedy(f"ollama show {name} --modelfile", "the stop parameters it has"),
            Remedy(f"ollama run {name}", "ask what it was trained on"),
        ),
        cause=Cause.NOT_LEARNED,
    )


def _remedies(folder: Path, name: str) -> tuple[Remedy, ...]:
    where = shlex.quote(str(folder / NAME))
    return (
        Remedy(f"ollama create {name} -f {where}", "takes the file"),
        Remedy(f"ollama run {name}", "talk to it"),
    )
