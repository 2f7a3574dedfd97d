"""Command convert: another tool's configuration file as our settings."""

from pathlib import Path

from headway.base.errors import Cause, Problems, Refusal, Remedy, UsageError
from headway.commands.verb import Verb, print_json, print_lines, print_text
from headway.config.command_line import Arguments, Switch
from headway.config.other_tools.files import TOOLS


def convert(arguments: Arguments) -> int:
    """Write our settings for another tool's file; 2 if something decisive has no counterpart."""
    from headway.config.conversion import conversion
    from headway.config.conversion.text import text_of_conversion

    path, tool = Path(_one_file(arguments)), arguments.switches.get("from", "").lower()
    if tool and tool not in TOOLS:
        raise UsageError(
            f"--from {tool}: no such tool",
            cause=Cause.INVALID_VALUE,
            have=tool,
            need=f"one of {', '.join(TOOLS)}",
            remedies=(Remedy(f"headway convert {path}", "recognizes the tool by its keys"),),
        )
    made = conversion.convert(path, tool)
    if made.problems and not arguments.on("force"):
        raise _refused(path, made.problems)
    if arguments.on("json"):
        settings = {name: value for name, (value, _) in made.settings.items()}
        keys = {"not_needed": dict(made.not_needed), "not_here": dict(made.not_here)}
        print_json({"tool": made.tool, "data": made.data, "settings": settings, **keys})
        return 0
    text = text_of_conversion(made, path)
    output = arguments.switches.get("output")
    if output is None:
        print_text(text)
        return 0
    _write(Path(output), text, replace=arguments.on("force"))
    plan = f"headway plan {output}" + ("" if made.data else " DATA")
    print_lines([f"{output} written from {path} ({made.tool}) · {plan} shows the plan"])
    return 0


def _one_file(arguments: Arguments) -> str:
    words = [*([arguments.config] if arguments.config else []), *arguments.words]
    if len(words) != 1:
        raise UsageError(
            "convert needs one file",
            cause=Cause.MISSING_ARGUMENT if not words else Cause.UNEXPECTED_ARGUMENT,
            have=" ".join(words) or "no file",
            need="the configuration of another tool, in YAML or JSON",
            remedies=(Remedy("headway convert axolotl.yml", "shows it as Headway's settings"),),
        )
    return words[0]


def _refused(path: Path, problems: list[Refusal]) -> Refusal:
    """Everything that has no counterpart, and how to continue without it."""
    *others, last = problems
    forced = Remedy(f"headway convert {path} --force", "the rest; what is missing as comments")
    last = UsageError(
        last.what,
        cause=last.cause,
        have=last.have,
        need=last.need,
        remedies=(*last.remedies, forced),
    )
    return Problems((*others, last)) if others else last


def _write(output: Path, text: str, *, replace: bool) -> None:
    try:
        with output.open("w" if replace else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(
            f"{output} already exists",
            cause=Cause.NOT_WRITABLE,
            have=f"a file of {output.stat().st_size:,} bytes",
            need="a new name",
            remedies=(Remedy("--output headway-2.yaml"), Remedy("--force", "replaces it")),
        ) from None
    except OSError as error:
        raise UsageError(
            f"cannot write {output}",
            cause=Cause.NOT_WRITABLE,
            have=error.strerror or str(error),
            need="a file in a folder that exists",
            remedies=(Remedy("--output headway.yaml", "in the working folder"),),
        ) from None


VERBS = {
    "convert": Verb(
        "convert FILE",
        "convert another tool's configuration file to Headway's settings",
        convert,
        {
            "output": Switch("write to this file instead of the screen", "FILE", short="o"),
            "from": Switch(
                "the tool it was written for; default: detected from its keys", "|".join(TOOLS)
            ),
            "force": Switch("even if something that decides the result is missing", short="f"),
        },
        group="set up",
        about="Reads a configuration of Axolotl, LLaMA-Factory, LitGPT, TRL, transformers or "
        "OpenAI, and writes the same settings under Headway's names, with a comment for every "
        "key. Settings that decide the result and have no counterpart are refused, all at once.",
        examples=(
            ("headway convert axolotl.yml", "print the result"),
            ("headway convert axolotl.yml -o run.yaml", "write a file for headway plan run.yaml"),
            (
                "headway convert train.json --from transformers",
                "name the tool instead of detecting it",
            ),
        ),
    ),
}
