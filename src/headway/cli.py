"""The verbs."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from headway.base.errors import Exit, Refusal, Remedy, UsageError, exit_code
from headway.base.version import __version__
from headway.config.command_line import Arguments, Switch, help_lines, parse
from headway.data.sources.source import shown

if TYPE_CHECKING:
    from headway.config.settings import Settings
    from headway.ui.screens import Screen

_READING = ("numpy", "tokenizers", "jinja2")
_TRAINING = ("torch", "transformers", "safetensors", "peft")
_SLOGAN = "Language-model training that makes headway, and proves it."
_WHERE = {"output_dir": Switch("where run folders are", "DIR", "runs")}
_COPY = {**_WHERE, "copy": Switch("copy every byte; else checkpoints are shared by hard links")}
_TRUST = {"trust_remote_code": Switch("run code that comes with the model")}
_WRITE = {
    **_WHERE,
    **_TRUST,
    "max_tokens": Switch("at most so many", "N", "256"),
    "temperature": Switch("0 takes the likeliest token each time", "T", "0.8"),
    "top_k": Switch("draw from so many of the likeliest", "K", "50"),
    "seed": Switch("of the draws", "N", "0"),
}


@dataclass(frozen=True)
class Verb:
    """One thing headway does."""

    usage: str
    help: str
    run: Callable[[Arguments], int]
    options: Mapping[str, Switch]
    settings: bool = False


def main() -> None:
    """The program; ends the process with an exit code of DESIGN's table."""
    sys.exit(run(sys.argv[1:]))


def run(argv: Sequence[str]) -> int:
    """Do what the words say; the exit code."""
    if sys.platform == "win32":
        sys.stderr.write("Headway runs on Linux, macOS and WSL2, not on native Windows.\n")
        return Exit.USAGE
    verbose = "--verbose" in argv or "-v" in argv
    try:
        return _dispatch(argv)
    except Refusal as refusal:
        _complain(refusal, verbose=verbose)
        return exit_code(refusal)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has left; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.KEPT
    except Exception as error:
        if verbose:
            raise
        sys.stderr.write(
            f"this is a bug of ours: {type(error).__name__}: {error}\n"
            f"  try   the same command with --verbose   shows the traceback\n"
        )
        return Exit.BUG


def _dispatch(argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        return _help(argv[1:])
    if argv[0] in ("-V", "--version", "version"):
        print(f"headway {__version__}")  # noqa: T201
        return Exit.KEPT
    verb = VERBS.get(argv[0])
    if verb is None:
        raise _no_such_verb(argv[0])
    if "--help" in argv[1:] or "-h" in argv[1:]:
        return _help(argv[:1])
    return verb.run(parse(argv[1:], verb.options, settings=verb.settings))


# -- plan, train -----------------------------------------------------------------------------


def _plan(arguments: Arguments) -> int:
    sources, settings = arguments.settings()
    _need(*_READING)
    screen = _screen(arguments, settings.logging_steps)
    if not arguments.on("json"):
        screen.say(_first_line("plan", _needed(sources, "plan")))
    try:
        # After the first line: it takes time.
        from headway.base.process import Stop

        with Stop().listening() as stop:
            from headway.supervise.supervisor import Request, Supervisor

            argv = tuple(map(shown, sys.argv))
            order = Request(_needed(sources, "plan"), settings, argv, arguments.on("verbose"))
            result = Supervisor(order, screen, stop).plan()
        if result.plan and arguments.on("json"):
            sys.stdout.write(result.plan.to_json().decode())
        elif result.plan:
            screen.plan(result.plan)
        return result.code
    finally:
        screen.close()


def _train(arguments: Arguments) -> int:
    sources, settings = arguments.settings()
    return _run(arguments, "train", _needed(sources, "train"), settings)


def _demo(arguments: Arguments) -> int:
    from headway.commands import demo

    if arguments.words:
        raise UsageError(
            "the demo brings its own text",
            have=arguments.words[0],
            need="no data",
            remedies=(Remedy(f"headway train {arguments.words[0]}", "trains on yours"),),
        )
    settings = demo.settings(tuple(arguments.given))
    return _run(arguments, "demo", demo.sources(), settings)


def _run(arguments: Arguments, verb: str, sources: tuple[str, ...], settings: "Settings") -> int:
    _need(*_READING, *_TRAINING)
    screen = _screen(arguments, settings.logging_steps)
    screen.say(_first_line(verb, sources))
    try:
        # After the first line: it takes time.
        from headway.base.process import Stop

        with Stop().listening() as stop:
            from headway.supervise.supervisor import Request, Supervisor

            order = Request(sources, settings, tuple(map(shown, sys.argv)), arguments.on("verbose"))
            return Supervisor(order, screen, stop).train().code
    finally:
        screen.close()


# -- looking ---------------------------------------------------------------------------------


def _status(arguments: Arguments) -> int:
    from headway.commands import status as looking

    return looking.status(_one(arguments), _output_dir(arguments), json=arguments.on("json"))


def _runs(arguments: Arguments) -> int:
    from headway.commands import status as looking

    return looking.runs(_output_dir(arguments), json=arguments.on("json"))


def _logs(arguments: Arguments) -> int:
    from headway.commands import status as looking

    return looking.logs(
        _one(arguments),
        _output_dir(arguments),
        follow=arguments.on("follow"),
        json=arguments.on("json"),
    )


def _stop(arguments: Arguments) -> int:
    from headway.commands import status as looking

    return looking.stop(_one(arguments), _output_dir(arguments))


def _kept(verb: str) -> Callable[[Arguments], int]:
    def run(arguments: Arguments) -> int:
        _need("numpy")
        from headway.commands import archives as keeping

        return keeping.DO[verb](arguments.words, arguments.switches, _output_dir(arguments))

    return run


def _doctor(arguments: Arguments) -> int:
    from headway.commands import status as looking
    from headway.doctor import checks as doctor

    return doctor.main(
        json=arguments.on("json"), width=looking.width(), output_dir=_output_dir(arguments)
    )


# -- asking a model --------------------------------------------------------------------------


def _generate(arguments: Arguments) -> int:
    from headway.commands.inference import ask, question

    _need(*_READING, *_TRAINING)
    prompt = arguments.switches.get("prompt", "")
    asked = question(
        "generate", _one(arguments), _output_dir(arguments), arguments.switches, prompt=prompt
    )
    ask(asked, quiet=arguments.on("quiet"))
    return Exit.KEPT


def _chat(arguments: Arguments) -> int:
    from headway.commands.inference import ask, question

    _need(*_READING, *_TRAINING)
    asked = question("chat", _one(arguments), _output_dir(arguments), arguments.switches)
    ask(asked, quiet=arguments.on("quiet"))
    return Exit.KEPT


def _eval(arguments: Arguments) -> int:
    from headway.commands import status as looking
    from headway.commands.inference import ask, evaluation_lines, question, run_and_data

    _need(*_READING, *_TRAINING)
    output_dir = _output_dir(arguments)
    run, data = run_and_data(arguments.words, output_dir)
    asked = question("eval", run, output_dir, arguments.switches, data=data)
    found = ask(asked, quiet=arguments.on("quiet"))
    assert found is not None, "an evaluation, or a refusal"
    if arguments.on("json"):
        looking.print_json(found)
    else:
        print("\n".join(evaluation_lines(found)))  # noqa: T201
    return Exit.KEPT


# -- small things ----------------------------------------------------------------------------


def _help(argv: Sequence[str]) -> int:
    verb = VERBS.get(argv[0]) if argv else None
    if verb is None:
        width = max(len(v.usage) for v in VERBS.values())
        lines = [_SLOGAN, ""]
        lines += [f"  headway {v.usage:{width}}  {v.help}" for v in VERBS.values()]
        lines += [
            "",
            "headway VERB --help shows a verb's options. RUN is a name, a folder or, when",
        ]
        lines += [
            "left out, the newest run. DATA is files, folders, patterns, or - for standard input."
        ]
    else:
        lines = [f"headway {verb.usage}", "", verb.help, ""]
        lines += help_lines(verb.options, settings=verb.settings)
    print("\n".join(lines))  # noqa: T201
    return Exit.KEPT


def _first_line(verb: str, sources: Sequence[str]) -> str:
    named = " ".join(map(shown, sources[:3]))
    named += f" and {len(sources) - 3} more" if len(sources) > 3 else ""
    return f"headway {__version__} · {verb} {named}"


def _screen(arguments: Arguments, logging_steps: int | None) -> "Screen":
    from headway.ui.screens import make_screen

    return make_screen(
        sys.stdout,
        sys.stderr,
        quiet=arguments.on("quiet"),
        json=arguments.on("json"),
        verbose=arguments.on("verbose"),
        logging_steps=logging_steps,
    )


def _needed(sources: tuple[str, ...], verb: str) -> tuple[str, ...]:
    if sources:
        return sources
    raise UsageError(
        f"{verb} needs data",
        have="no file, folder or pattern",
        need="something to train on",
        remedies=(
            Remedy(f"headway {verb} notes.txt", "a file; a folder, a pattern and - work too"),
            Remedy("headway demo", "on text this machine already has"),
        ),
    )


def _need(*packages: str) -> None:
    """Say what to install, where a light installation meets a verb that trains or reads data."""
    import importlib.util

    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            "the trainer is not installed",
            have=f"headway without {', '.join(missing)}",
            need="the packages of headway[train]",
            remedies=(
                Remedy("pip install 'headway[train]'"),
                Remedy("headway doctor", "which build of torch fits this machine"),
            ),
        )


def _one(arguments: Arguments) -> str | None:
    if len(arguments.words) > 1:
        raise UsageError(
            "one run at a time",
            have=" ".join(arguments.words),
            need="one name or folder, or none for the newest",
            remedies=tuple(Remedy(word) for word in arguments.words[:2]),
        )
    return arguments.words[0] if arguments.words else None


def _output_dir(arguments: Arguments) -> Path:
    return Path(arguments.switches.get("output_dir", "runs"))


def _complain(refusal: Refusal, *, verbose: bool) -> None:
    from headway.commands import status as looking
    from headway.ui.show_run import refusal_lines

    if verbose:
        import traceback

        traceback.print_exception(refusal)
    sys.stderr.write("\n".join(refusal_lines(refusal, looking.width())) + "\n")


def _no_such_verb(word: str) -> UsageError:
    import difflib

    near = difflib.get_close_matches(word, [*VERBS], n=2)
    remedies = [Remedy(f"headway {name}", VERBS[name].help) for name in near]
    if Path(word).exists():
        remedies.insert(0, Remedy(f"headway train {word}", "train on it"))
    return UsageError(
        f"headway has no verb {word}",
        have=word,
        need=", ".join(VERBS),
        remedies=tuple(remedies) or (Remedy("headway --help"),),
    )


VERBS = {
    "demo": Verb("demo", "train a small model on text this machine already has", _demo, {}, True),
    "plan": Verb("plan DATA... [settings]", "decide everything, train nothing", _plan, {}, True),
    "train": Verb(
        "train DATA... [settings]", "plan, train, prove; ends with a receipt", _train, {}, True
    ),
    "generate": Verb(
        "generate [RUN] --prompt TEXT",
        "text from a prompt",
        _generate,
        {"prompt": Switch("what the text begins with", "TEXT"), **_WRITE},
    ),
    "chat": Verb("chat [RUN]", "talk to it", _chat, _WRITE),
    "eval": Verb(
        "eval [RUN] DATA...",
        "held-out loss, perplexity, bits per byte",
        _eval,
        {**_WHERE, **_TRUST, "max_length": Switch("tokens of a row", "N", "as trained")},
    ),
    "runs": Verb("runs", "what there is", _runs, _WHERE),
    "status": Verb("status [RUN]", "what it is doing right now and since when", _status, _WHERE),
    "logs": Verb(
        "logs [RUN]",
        "what happened, line by line",
        _logs,
        {**_WHERE, "follow": Switch("go on until the run ends")},
    ),
    "stop": Verb("stop [RUN]", "save and stop it", _stop, _WHERE),
    "verify": Verb("verify [RUN]", "a receipt's claims, computed again", _kept("verify"), _WHERE),
    "backup": Verb(
        "backup [RUN] | --list [RUN]",
        "a copy of a run to go back to",
        _kept("backup"),
        {
            **_COPY,
            "type": Switch("what for, in a word", "WORD", "manual"),
            "note": Switch("anything", "TEXT"),
            "list": Switch("show the backups there are"),
        },
    ),
    "restore": Verb("restore RUN [BACKUP]", "go back to a copy", _kept("restore"), _COPY),
    "doctor": Verb("doctor", "is this machine fit to train", _doctor, _WHERE),
}


if __name__ == "__main__":
    main()
