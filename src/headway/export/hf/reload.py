"""Reload process: a fresh one that opens an exported folder as anybody does.

Whatever was right only in the process that wrote it (a module that was wrapped, a weight that was
tied, a class that was patched) shows here.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headway.base.errors import BrokenContract, Cause, Remedy
from headway.base.foreign.boundary import Boundary
from headway.base.host.child_main import answer_request, run_child
from headway.base.pulse import Phase, Pulse

LOGITS = "logits.safetensors"


@dataclass(frozen=True)
class ReloadRequest:
    """What to open, and what to ask it.

    Attributes:
        folder: of a model, or of adapters.
        rows: token ids.
        text: to tokenize.
        messages: to render, ready for an answer; empty without a chat template.
        logits: the file that gets the logits.
        base: the folder of the adapters' base model; "" for where they say.
        trust_remote_code: run code that comes with the model.
    """

    folder: str
    rows: tuple[tuple[int, ...], ...]
    text: str
    messages: tuple[dict[str, str], ...]
    logits: str
    base: str = ""
    trust_remote_code: bool = False


@dataclass(frozen=True)
class Reloaded:
    """What the folder answered.

    Attributes:
        loss: of the rows, nats per token.
        text_ids: of the text, without special tokens around it.
        chat: the rendered messages.
        end_ids: at which generation ends.
        transformers: its version.
    """

    loss: float
    text_ids: tuple[int, ...]
    chat: str
    end_ids: tuple[int, ...]
    transformers: str


def reload(request: ReloadRequest, pulse: Pulse) -> Reloaded:
    """Open a folder and ask it.

    Raises:
        Refusal: it does not open as a language model with all its weights.
    """
    with pulse.importing(Phase.IMPORTING_TRANSFORMERS):
        import transformers
        from safetensors.torch import save_file

        from headway.export.hf.probes import logits_of, loss_of
        from headway.export.reading.adapters import put_adapters
        from headway.export.reading.base_folder import find_base
        from headway.model.load import from_folder, is_adapter

    folder, trusts = Path(request.folder), request.trust_remote_code
    pulse.enter(Phase.LOADING_MODEL)
    if is_adapter(folder):
        base = Path(request.base or find_base(folder, "", pulse).folder)
        model: Any = put_adapters(from_folder(base, trust_remote_code=trusts), folder)
    else:
        model = from_folder(folder, trust_remote_code=trusts)
    with _not_opening(folder)():
        words: Any = transformers.AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=trusts
        )
    pulse.enter(Phase.VERIFYING_EXPORT)
    logits_NV = logits_of(model.eval(), request.rows)
    save_file({"logits": logits_NV}, request.logits)
    with _not_opening(folder)():
        return Reloaded(
            loss=loss_of(logits_NV, request.rows),
            text_ids=tuple(words.encode(request.text, add_special_tokens=False)),
            chat=_rendered(words, list(request.messages)),
            end_ids=_end_ids(transformers.GenerationConfig.from_pretrained(folder)),
            transformers=transformers.__version__,
        )


def _rendered(words: Any, messages: list[dict[str, str]]) -> str:
    if not messages:
        return ""
    return words.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def _not_opening(folder: Path) -> Boundary:
    return Boundary(
        "transformers cannot read the tokenizer that was exported",
        cause=Cause.EXPORT_DIFFERS,
        need=f"files in {folder.name} that AutoTokenizer opens; nothing was written",
        remedies=(Remedy("headway doctor", "shows the installed version of transformers"),),
        kind=BrokenContract,
    )


def _end_ids(generation: Any) -> tuple[int, ...]:
    ends = generation.eos_token_id
    return () if ends is None else (ends,) if isinstance(ends, int) else tuple(ends)


def main(arguments: list[str]) -> int:
    """Run the process; returns its exit code."""
    return answer_request(
        arguments, ReloadRequest, lambda request, path: reload(request, Pulse(path))
    )


if __name__ == "__main__":
    sys.exit(run_child(main))
