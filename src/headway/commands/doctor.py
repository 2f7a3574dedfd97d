"""Command doctor: readiness check of this machine."""

from headway.commands.verb import (
    OUTPUT_DIR,
    Verb,
    output_dir,
    print_lines,
    print_text,
    terminal_width,
)
from headway.config.command_line import Arguments


def doctor(arguments: Arguments) -> int:
    """Check this machine; 5 when something prevents training."""
    from headway.doctor.checks import as_json, examine, exit_code, lines
    from headway.doctor.facts import read_machine

    checks = examine(read_machine(output_dir(arguments)))
    if arguments.on("json"):
        print_text(as_json(checks).decode() + "\n")
    else:
        print_lines(lines(checks, terminal_width()))
    return exit_code(checks)


VERBS = {
    "doctor": Verb(
        "doctor",
        "check that this machine is ready to train",
        doctor,
        OUTPUT_DIR,
        group="set up",
        about="Checks packages, devices, threads, memory, disk and limits, and says what to "
        "change. It ends with 5 if something prevents training.",
        examples=(
            ("headway doctor", "everything that matters before a first run"),
            ("headway doctor -o /data/runs", "with the disk that this folder is on"),
            ("headway doctor --json", "the same, for programs"),
        ),
    ),
}
