"""Command finetune: plan, train, prove, export and check in one go."""

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from headway.base.errors import Exit
from headway.base.host import packages
from headway.commands.exports.check import check_folder, known_base
from headway.commands.exports.export import (
    SWITCHES,
    default_output,
    export_options,
    export_request,
    needed_modules,
    run,
)
from headway.commands.train import check_sources, supervised
from headway.commands.verb import Verb, print_lines, print_text, terminal_width
from headway.config.command_line import Arguments, Switch

if TYPE_CHECKING:
    from headway.config.settings import Settings

_OUT = {"out": Switch("the folder to export to", "DIR", "exports/NAME-hf, for example")}
_OWN = (*SWITCHES, *_OUT)


def finetune(arguments: Arguments) -> int:
    """Train a model, export it, and check what was written.

    Returns:
        The exit code of training, if that did not do what was planned; nothing is exported then.
    """
    from headway.export.output import check_replaceable

    sources, settings = arguments.settings()
    switches = {name: value for name, value in arguments.switches.items() if name in _OWN}
    # All that can be refused is refused before hours of training.
    check_sources(sources, "finetune")
    options = export_options(switches, settings.run_name or "model", " ".join(sources[:3]))
    packages.require("finetune", (*packages.TRAINING, *needed_modules(options)))
    if settings.run_name or "out" in switches:  # else the run's name is not known yet
        output = Path(switches.get("out") or default_output(options)).absolute()
        check_replaceable(output, options.to)
    if options.adapter_only and not settings.lora:
        settings = replace(
            settings, lora=True, origins=settings.origins | {"lora": "--adapter-only"}
        )
    trained = supervised(arguments, "finetune", sources, settings)
    if trained.folder is None or trained.code != Exit.KEPT:
        if trained.folder is not None:
            print_lines(_not_exported(trained.folder, switches))
        return trained.code
    return _export(arguments, trained.folder, switches, settings)


def _export(
    arguments: Arguments, folder: Path, switches: Mapping[str, str], settings: "Settings"
) -> int:
    """Export the newest checkpoint, and check it; 4 if something speaks against it."""
    import msgspec

    from headway.export.check.show_check import check_lines
    from headway.export.show_export import export_lines

    quiet, width = arguments.on("quiet"), terminal_width()
    trusts = {"trust_remote_code": ""} if settings.trust_remote_code else {}
    request = export_request(str(folder), folder.parent, {**switches, **trusts})
    exported = run(request, quiet=quiet or arguments.on("json"))
    model = Path(exported.output if exported.options.to == "hf" else exported.source)
    checked = check_folder(
        model,
        known_base(Path(exported.source)),
        quiet=quiet or arguments.on("json"),
        trust_remote_code=settings.trust_remote_code,
    )
    if arguments.on("json"):
        for value in (exported, checked):
            print_text(msgspec.json.encode(value).decode() + "\n")
    else:
        print_lines(["", *export_lines(exported, width), "", *check_lines(checked, width)])
    return Exit.KEPT if checked.is_good else Exit.BROKEN


def _not_exported(folder: Path, switches: Mapping[str, str]) -> list[str]:
    typed = " ".join(
        f"--{name.replace('_', '-')}{' ' + shlex.quote(value) if value else ''}"
        for name, value in switches.items()
    )
    return [
        "not exported: training did not end as planned",
        f"  headway export {shlex.quote(str(folder))} {typed}",
        "    exports its newest checkpoint as it is",
    ]


VERBS = {
    "finetune": Verb(
        "finetune DATA... --to hf|gguf|ollama [settings]",
        "train, export and check in one go",
        finetune,
        {**SWITCHES, **_OUT},
        True,
        group="start",
        about="Plans a run, trains it, and if its receipt says that it kept its contract and "
        "learned, exports the model, compares it with the one that was trained, and checks the "
        "folder. All options are those of train and export; what export would refuse is refused "
        "before training.",
        examples=(
            ("headway finetune chats.jsonl -m small --to ollama", "a model for Ollama"),
            ("headway finetune chats.jsonl -m small --lora --to hf", "adapters, merged"),
            ("headway finetune a.jsonl -m small --to gguf", "a GGUF file"),
        ),
    ),
}
