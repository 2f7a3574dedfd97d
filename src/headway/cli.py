"""Command line: dispatch to a verb, errors to exit codes."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from headway.base.addresses import hide_credentials
from headway.base.errors import Cause, Exit, Refusal, Remedy, UsageError, exit_code
from headway.base.host.machine_errors import machine_refusal
from headway.base.version import __version__
from headway.commands import archives, convert, doctor, inference, status, train, worker
from headway.commands.completion import completion_verb
from headway.commands.demos import demo
from headway.commands.exports import check, export, finetune
from headway.commands.help import overview_lines, verb_lines
from headway.commands.services import inbox
from headway.commands.stalls import diagnose, guard
from headway.commands.verb import print_lines, terminal_width, unexpected
from headway.config.command_line import parse
from headway.config.values import check_utf8, working_folder
from headway.ui.standard_streams import prepare_streams

VERBS = {
    **demo.VERBS,
    **train.VERBS,
    **finetune.VERBS,
    **worker.VERBS,
    **inbox.VERBS,
    **inference.VERBS,
    **export.VERBS,
    **check.VERBS,
    **status.VERBS,
    **diagnose.VERBS,
    **guard.VERBS,
    **archives.VERBS,
    **doctor.VERBS,
    **convert.VERBS,
}
VERBS["completion"] = completion_verb(VERBS)


def main() -> None:
    """The program; ends the process with one of `Exit`."""
    sys.exit(run(sys.argv[1:]))


def run(argv: Sequence[str]) -> int:
    """Run the verb that was typed.

    Args:
        argv: without the program's name.

    Returns:
        The exit code.
    """
    if sys.platform == "win32":
        sys.stderr.write("Headway runs on Linux, macOS and WSL2, not on native Windows.\n")
        return Exit.USAGE
    verbose = "--verbose" in argv or "-v" in argv
    try:
        prepare_streams(argv)
        return _dispatch(argv)
    except Refusal as refusal:
        _print_refusal(refusal, verbose=verbose)
        return exit_code(refusal)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except Exception as error:
        if refusal := machine_refusal(error):
            _print_refusal(refusal, verbose=verbose)
            return exit_code(refusal)
        if verbose:
            _print_traceback(error)
        sys.stderr.write(
            f"this is a bug in Headway: {type(error).__name__}: {hide_credentials(str(error))}\n"
            f"  try   the same command with --verbose   shows the traceback\n"
        )
        return Exit.BUG


def _dispatch(argv: Sequence[str]) -> int:
    check_utf8((*argv, working_folder()))
    name, words = (argv[0], argv[1:]) if argv else ("help", [])
    if name in ("-h", "--help", "help"):
        if words and words[0] not in VERBS:
            raise _unknown_verb(words[0])
        if len(words) > 1:
            raise unexpected(f"help {words[0]}", words[1:])
        width = terminal_width()
        print_lines(verb_lines(VERBS[words[0]], width) if words else overview_lines(VERBS, width))
        return Exit.KEPT
    if name in ("-V", "--version", "version"):
        if words:
            raise unexpected("--version", words)
        print_lines([f"headway {__version__}"])
        return Exit.KEPT
    verb = VERBS.get(name)
    if verb is None:
        raise _unknown_verb(name)
    asked = words[: words.index("--")] if "--" in words else words
    if not verb.runs_command and ("--help" in asked or "-h" in asked):
        print_lines(verb_lines(verb, terminal_width()))
        return Exit.KEPT
    arguments = parse(words, verb.options, settings=verb.settings, until_word=verb.runs_command)
    if arguments.on("help"):  # one of several letters: -vh
        print_lines(verb_lines(verb, terminal_width()))
        return Exit.KEPT
    return verb(arguments)


def _print_refusal(refusal: Refusal, *, verbose: bool) -> None:
    from headway.ui.output import columns, text_width
    from headway.ui.show_run import refusal_lines

    if verbose:
        _print_traceback(refusal)
    lines = refusal_lines(refusal, text_width(columns(sys.stderr, os.environ)))
    sys.stderr.writelines(f"{line.text}\n" for line in lines)


def _print_traceback(error: Exception) -> None:
    """The traceback on standard error; what libraries say in it may contain a password."""
    import traceback

    sys.stderr.write(hide_credentials("".join(traceback.format_exception(error))))


def _unknown_verb(word: str) -> UsageError:
    """A verb that does not exist: another tool's, or one with a typo; nothing else is guessed."""
    from headway.config.other_tools import verbs
    from headway.config.typos import nearest

    other = verbs.VERBS.get(word.lower())
    near = None if other else nearest(word, VERBS)
    remedies = [*other.remedies] if other else []
    if near:
        remedies.append(Remedy(f"headway {near}", VERBS[near].help))
    if Path(word).exists():
        remedies.insert(0, Remedy(f"headway train {word}", "train on it"))
    return UsageError(
        f"headway has no command {word}",
        cause=Cause.UNKNOWN_COMMAND,
        have=word,
        need=other.need if other else ", ".join(VERBS),
        remedies=tuple(remedies) or (Remedy("headway --help"),),
    )


if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]  # the working folder
    main()
