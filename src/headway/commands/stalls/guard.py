"""Command guard: any training command under the same watch as Headway's own runs."""

import math

from headway.base.errors import Cause, Remedy, UsageError
from headway.base.network.webhook import is_webhook
from headway.base.units import read_seconds
from headway.commands.verb import OUTPUT_DIR, Verb, number, output_dir
from headway.config.command_line import Arguments, Switch


def guard(arguments: Arguments) -> int:
    """Run a command, watch it, and judge how it ended."""
    from headway.config.run_name import check_run_name
    from headway.guard.command_name import command_name
    from headway.guard.guard import GuardRequest, guard_command

    command = tuple(arguments.words)
    if not command:
        raise UsageError(
            "guard needs a command to run",
            cause=Cause.MISSING_ARGUMENT,
            have="no command",
            need="a command, as you would type it in a shell",
            remedies=(
                Remedy("headway guard -- python train.py", "runs a script"),
                Remedy("headway guard -- torchrun --nproc-per-node 2 train.py", "or a launcher"),
            ),
        )
    switches = arguments.switches
    name = switches.get("name", "")
    try:
        name = check_run_name(name) if name else command_name(command)
    except ValueError as needed:
        raise UsageError(
            f"--name: {name} cannot be a run's name",
            cause=Cause.INVALID_VALUE,
            have=name,
            need=str(needed),
            remedies=(Remedy(f"--name {command_name(command)}"),),
        ) from needed
    return guard_command(
        GuardRequest(
            command=command,
            name=name,
            output_dir=output_dir(arguments),
            restarts=int(number(switches, "restart", 0)) if "restart" in switches else None,
            timeout_s=_seconds(arguments, "timeout", "2h"),
            stall_after_s=_seconds(arguments, "stall_after", "10m"),
            notify=_webhook(switches.get("notify", "")),
            quiet=arguments.on("quiet"),
            silent=arguments.on("json"),
        )
    )


def _seconds(arguments: Arguments, name: str, example: str) -> float:
    if name not in arguments.switches:
        return 0.0
    text, flag = arguments.switches[name], f"--{name.replace('_', '-')}"
    try:
        value = read_seconds(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise UsageError(
            f"{flag}: {text or 'nothing'} is not a valid duration",
            cause=Cause.INVALID_VALUE,
            have=text or "no value",
            need="a duration like 90, 10m or 1h30m, more than 0",
            remedies=(Remedy(f"{flag} {example}"),),
        )
    return value


def _webhook(url: str) -> str:
    if url and not is_webhook(url):
        raise UsageError(
            f"--notify: {url} is not the address of a webhook",
            cause=Cause.ADDRESS_INVALID,
            have=url,
            need="an address that begins with https://, as Slack, Discord or ntfy give it",
            remedies=(Remedy("--notify https://ntfy.sh/a-topic-that-nobody-guesses"),),
        )
    return url


VERBS = {
    "guard": Verb(
        "guard [--] COMMAND...",
        "run any training command and watch it",
        guard,
        {
            "restart": Switch("start it again up to N times, after a crash or a stall", "N"),
            "timeout": Switch(
                "end it after this time, such as 90, 10m or 1h30m; exit code 75", "T"
            ),
            "stall_after": Switch(
                "silence that counts as a stall; default: learned from its output", "T"
            ),
            "notify": Switch("post stalls and the end to a webhook: Slack, Discord, ntfy", "URL"),
            "name": Switch("name of the run; default: that of the script", "NAME"),
            **OUTPUT_DIR,
        },
        runs_command=True,
        group="look",
        about="Runs a command as a shell would: output, input and signals pass through unchanged. "
        "If it goes silent, a line says what it is doing; if it stalls, why; and at the end, "
        "whether it trained. The exit code is the command's own, or 4 if that is 0 but nothing "
        "was trained; with --json, what it would say is only in the run's events.jsonl.",
        examples=(
            ("headway guard -- python train.py", "a script"),
            (
                "headway guard --restart 3 --timeout 8h -- torchrun a.py",
                "restart it when it crashes, end it after 8 hours",
            ),
            (
                "headway guard --notify https://ntfy.sh/my-runs python a.py",
                "notify a phone when it stalls and when it ends",
            ),
        ),
    ),
}
