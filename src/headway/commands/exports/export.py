"""Command export: a trained model for another program, compared there."""

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from headway.base.errors import Cause, Exit, Remedy, UsageError
from headway.base.host import packages
from headway.commands.inference import usable_checkpoint
from headway.commands.verb import (
    Verb,
    number,
    one_run,
    output_dir,
    print_json,
    print_lines,
    terminal_width,
)
from headway.config.command_line import Arguments, Switch

if TYPE_CHECKING:
    from headway.base.process import ChildProcess
    from headway.base.pulse import PulseReading
    from headway.export.request import ExportOptions, ExportRequest, ExportResult

_FOLDERS = ("config.json", "adapter_config.json")
SWITCHES = {
    "to": Switch("the program it is for", "hf|gguf|ollama"),
    "quantize": Switch(
        "number format of the weights: f32 f16 bf16 for every program; q8_0 q6_k q5_k_m q4_k_m "
        "in a GGUF file",
        "FORMAT",
        "f32, of a GGUF file f16",
    ),
    "adapter_only": Switch("hf: the adapters as they are, not merged"),
    "name": Switch("the model's name in its files and in Ollama", "NAME", "that of the run"),
    "system": Switch("ollama: instructions before every conversation", "TEXT"),
    "num_ctx": Switch("ollama: tokens of context", "N", "the model's"),
    "verify": Switch("refuse what cannot be compared here"),
    "no_verify": Switch("do not compare, and say so"),
}


def export(arguments: Arguments) -> int:
    """Export a run's model, or any folder's."""
    from headway.export.show_export import export_lines

    packages.require("export", packages.TRAINING)
    request = export_request(one_run(arguments), output_dir(arguments), arguments.switches)
    packages.require("export", needed_modules(request.options))
    result = run(request, quiet=arguments.on("quiet"))
    if arguments.on("json"):
        print_json(result)
    else:
        lines = export_lines(result, terminal_width())
        print_lines(lines[-1:] if arguments.on("quiet") else lines)
    return Exit.KEPT


def run(request: "ExportRequest", *, quiet: bool) -> "ExportResult":
    """Export in a process of its own, shown meanwhile.

    Raises:
        Refusal: nothing was written.
    """
    from headway.export.run_export import run_export

    return run_export(request, partial(_show, quiet=quiet))


def export_request(word: str | None, runs: Path, switches: Mapping[str, str]) -> "ExportRequest":
    """What to export.

    Args:
        word: a run, a checkpoint, or a folder with a model or adapters; None for the newest run.
        runs: the folder with the runs.
        switches: as typed.

    Raises:
        UsageError: there is no such model, or an option is invalid.
    """
    from headway.export.output import check_output
    from headway.export.request import ExportRequest

    folder, run_folder, name = find_model(word, runs)
    options = export_options(switches, name, word or "")
    if "model" in switches and not (folder / _FOLDERS[1]).is_file():
        raise _not_together(
            f"--model {switches['model']}", str(folder), "--model only for adapters"
        )
    request = ExportRequest(
        folder=str(folder),
        output=str(Path(switches.get("out") or default_output(options)).absolute()),
        options=options,
        run=str(run_folder) if run_folder else "",
        base=switches.get("model", ""),
        trust_remote_code="trust_remote_code" in switches,
    )
    check_output(Path(request.output), folder, options.to)
    return request


def find_model(word: str | None, runs: Path) -> tuple[Path, Path | None, str]:
    """The folder of a model, the run that trained it, and its name.

    Raises:
        UsageError: there is none.
    """
    from headway.runs import checkpoint_state
    from headway.runs.folder import find_run, is_run

    path = Path(word) if word else None
    if path and not is_run(path) and not is_run(runs / path):
        is_checkpoint = (path / checkpoint_state.FILE).is_file()
        if is_checkpoint and is_run(path.resolve().parent):
            found = path.resolve()
            check_checkpoint(found)
            return found, found.parent, found.parent.name
        if any((path / name).is_file() for name in _FOLDERS):
            return path.resolve(), None, path.resolve().name
    found_run = find_run(word, runs)
    return usable_checkpoint(found_run).resolve(), found_run.path.resolve(), found_run.path.name


def needed_modules(options: "ExportOptions") -> tuple[str, ...]:
    """Modules that writing for a program takes, besides those of training."""
    if options.to == "hf":
        return ()
    is_from_llama_cpp = "_k" in options.quantize
    return ("gguf", "xllamacpp") if is_from_llama_cpp else ("gguf",)


def check_checkpoint(path: Path) -> None:
    """Check the files of a checkpoint that was named.

    Raises:
        UsageError: they differ from what was written.
    """
    from headway.base.files import verify_folder

    problems = verify_folder(path)
    if problems:
        raise UsageError(
            f"{path} is damaged",
            cause=Cause.CHECKPOINT_DAMAGED,
            have=str(problems[0]),
            need="files that match the manifest",
            remedies=(
                Remedy(f"headway export {path.parent}", "its newest checkpoint that is whole"),
            ),
        )


def export_options(
    switches: Mapping[str, str], name: str, of: str = "", *, flag: str = "--to"
) -> "ExportOptions":
    """The options that were typed.

    Args:
        switches: as typed.
        name: of the model, if none is given.
        of: what was named to be exported, for people.
        flag: that names the program.

    Raises:
        UsageError: one of them is invalid, or does not go with the program.
    """
    from headway.export.output import check_name, file_name
    from headway.export.request import TARGETS, ExportOptions

    to = switches.get("to", "")
    if to not in TARGETS:
        raise _no_target(to, of, flag)
    only = {"adapter_only": "hf", "system": "ollama", "num_ctx": "ollama"}
    for switch, target in only.items():
        if switch in switches and to != target:
            raise _not_together(f"--{switch.replace('_', '-')}", f"{flag} {to}", f"{flag} {target}")
    if "verify" in switches and "no_verify" in switches:
        raise _not_together("--verify", "--no-verify", "one of them")
    given = switches.get("name")
    return ExportOptions(
        to=to,
        quantize=_format(to, switches, flag),
        adapter_only="adapter_only" in switches,
        name=check_name(given, "--name") if given is not None else file_name(name),
        system=switches.get("system", ""),
        num_ctx=int(number(switches, "num_ctx", 0)),
        verify="never"
        if "no_verify" in switches
        else "always"
        if "verify" in switches
        else "if possible",
    )


def _format(to: str, switches: Mapping[str, str], flag: str) -> str:
    """The number format of the weights."""
    from headway.export.request import FORMATS

    formats = FORMATS[:3] if to == "hf" else FORMATS
    default = "f32" if to == "hf" else "f16"
    name = switches.get("quantize", default).lower()
    if name not in formats:
        known = name in FORMATS
        raise UsageError(
            f"--quantize: {name or 'nothing'} is not a number format of "
            + ("a transformers folder" if known else "weights"),
            cause=Cause.INVALID_VALUE,
            have=name or "no value",
            need=" ".join(formats),
            remedies=(
                Remedy(f"{flag} gguf --quantize {name}" if known else f"--quantize {default}"),
            ),
        )
    if "adapter_only" in switches and "quantize" in switches:
        raise _not_together("--quantize", "--adapter-only", "adapters as they are")
    return name


def default_output(options: "ExportOptions") -> Path:
    """Where an export goes: `exports/NAME-hf`, `exports/NAME-gguf-q8_0`."""
    plain = options.quantize == ("f32" if options.to == "hf" else "f16")
    parts = [options.name, options.to, "" if plain else options.quantize]
    return Path("exports", "-".join(part for part in parts if part))


def _show(process: "ChildProcess", pulse: Path, *, quiet: bool) -> None:
    from headway.ui.spinner import show_wait

    def is_over(_: "PulseReading | None") -> bool:
        return not process.is_running

    show_wait(sys.stderr, pulse, is_over, quiet=quiet)


def _no_target(to: str, of: str, flag: str) -> UsageError:
    return UsageError(
        f"{flag}: {to} is not a program that is exported for"
        if to
        else f"an export{f' of {of}' if of else ''} needs {flag}",
        cause=Cause.INVALID_VALUE if to else Cause.MISSING_ARGUMENT,
        have=to or "no program",
        need="hf, gguf or ollama",
        remedies=(
            Remedy(f"{flag} hf", "a folder for transformers, vLLM and TRL"),
            Remedy(f"{flag} gguf", "a file for llama.cpp and what is built on it"),
            Remedy(f"{flag} ollama", "that file and a Modelfile"),
        ),
    )


def _not_together(one: str, other: str, need: str) -> UsageError:
    return UsageError(
        f"{one} and {other} cannot be combined",
        cause=Cause.CONTRADICTION,
        have=f"{one} {other}",
        need=need,
        remedies=(Remedy(f"remove {one}"),),
    )


VERBS = {
    "export": Verb(
        "export [RUN] --to hf|gguf|ollama",
        "write a model for another program, and compare it there",
        export,
        {
            "out": Switch("the folder to write", "DIR", "exports/NAME-hf, for example", "o"),
            **SWITCHES,
            "output_dir": Switch("folder with the runs", "DIR", "runs"),
            "model": Switch("of adapters: where their base model is now", "DIR"),
            "trust_remote_code": Switch("run code that comes with the model"),
        },
        group="use",
        about="Writes the newest checkpoint of a run for another program: a folder for "
        "transformers, a GGUF file for llama.cpp, or a GGUF file with a Modelfile for Ollama. "
        "What was written is opened by that program and compared with the model that was trained; "
        "if it differs, nothing is kept. RUN may also be a folder with a transformers model or "
        "PEFT adapters that Headway did not train.",
        examples=(
            ("headway export notes --to hf -o out", "a folder for transformers, vLLM and TRL"),
            ("headway export notes --to gguf --quantize q8_0", "a GGUF file in 8 bits"),
            ("headway export models/small --to ollama --name small", "any folder, for Ollama"),
        ),
    ),
}
