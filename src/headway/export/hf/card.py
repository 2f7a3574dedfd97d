"""Model card: README.md of an exported model, with the facts of the receipt of its run."""

import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from headway.base.addresses import hide_credentials
from headway.base.errors import UsageError
from headway.base.units import count, short_count
from headway.base.version import __version__
from headway.export.request import NOTE
from headway.export.source import ExportSource
from headway.runs.facts import receipt_facts
from headway.runs.folder import RunFolder
from headway.runs.plan import Plan
from headway.runs.receipt import Receipt, load_receipt

FILE = "README.md"
_NO_CODE = r"[`\n\r]"  # ends a code span


def write_card(source: ExportSource, format_name: str, folder: Path, *, merged: bool) -> None:
    """Write README.md.

    Args:
        source: what was exported.
        format_name: of the weights: "float32".
        folder: gets the file.
        merged: adapters were merged into their base model.
    """
    run = RunFolder(source.run) if source.run else None
    receipt = _receipt(run, source.folder) if run else None
    lines = [
        *_header(source, merged=merged),
        f"# {_plain(source.name)}",
        "",
        *_what_it_is(source, format_name, merged=merged),
        "",
        *_ends(source),
        "",
        *(_training(run.plan(), receipt) if run else ["Not trained by Headway.", ""]),
        f"Exported by Headway {__version__}; `{NOTE}` says how it was compared with the model that"
        " was trained.",
    ]
    (folder / FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _header(source: ExportSource, *, merged: bool) -> list[str]:
    """The part that the Hugging Face Hub reads."""
    is_adapter = source.base is not None and not merged
    lines = ["---", f"library_name: {'peft' if is_adapter else 'transformers'}"]
    if source.base and "/" in source.base.name:
        lines += [f"base_model: {_plain(source.base.name)}"]
    return [*lines, "pipeline_tag: text-generation", "tags:", "- headway", "---", ""]


def _what_it_is(source: ExportSource, format_name: str, *, merged: bool) -> list[str]:
    base = source.base
    kind = _plain(str(source.config.get("model_type", "model")))
    total = 0
    for shape in source.shapes.values():
        size = 1
        for length in shape:
            size *= length
        total += size
    if base is None:
        lines = [f"A {kind} model of {short_count(total)} weights in {format_name}."]
    elif merged:
        lines = [
            f"A {kind} model of {short_count(total)} weights in {format_name}: adapters, merged in"
            f" fp32 into {_plain(base.name)} (weights `{base.sha256[:12]}`)."
        ]
    else:
        lines = [f"Adapters of {_plain(base.name)} (weights `{base.sha256[:12]}`)."]
    if source.dequantized:
        lines += ["", f"The weights were dequantized from {_plain(source.dequantized)} before."]
    return lines


def _ends(source: ExportSource) -> list[str]:
    tokens = {one: source.tokenizer.token_of(one) or "" for one in source.end_ids}
    named = [f"`{re.sub(_NO_CODE, ' ', token)}` ({one})" for one, token in tokens.items()]
    return [f"Answers end with {' or '.join(named)}." if named else "No token ends an answer."]


def _training(plan: Plan | None, receipt: Receipt | None) -> list[str]:
    if receipt is None:
        return ["## Training", "", "The run has no receipt for these weights yet.", ""]
    facts = list(receipt_facts(receipt))
    if plan is not None:
        data = plan.data
        names = ", ".join(_plain(Path(hide_credentials(one)).name) for one in data.sources[:5])
        more = f" and {len(data.sources) - 5} more" if len(data.sources) > 5 else ""
        facts += [
            ("data", f"{names}{more} · {count(data.records.accepted)} records"),
            ("started from", f"{plan.model.name} {plan.model.weights_sha256[:12]}".strip()),
        ]
    return ["## Training", "", _plain(receipt.line), "", *_table(facts), ""]


def _table(rows: Sequence[tuple[str, str]]) -> list[str]:
    return ["| | |", "|---|---|", *(f"| {_plain(one)} | {_plain(two)} |" for one, two in rows)]


def _receipt(run: RunFolder, checkpoint: Path) -> Receipt | None:
    """The run's receipt, if it is about these weights."""
    try:
        receipt = load_receipt(run.path)
    except (OSError, msgspec.MsgspecError, UsageError):
        return None
    saved = receipt.checkpoint
    return receipt if saved and saved.name == checkpoint.name else None


def _plain(text: str) -> str:
    """Text without what Markdown or YAML would read as something else: names come from files."""
    return re.sub(r"[^\w .,:;+\-*/%()±→>·@=]", " ", text.replace("\n", " ")).strip()
