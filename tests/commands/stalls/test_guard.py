"""The verb guard: its words, its options, and what is refused."""

import pytest

from headway.base.errors import UsageError
from headway.commands.stalls import guard
from headway.config.command_line import parse
from headway.guard.guard import GuardRequest

VERB = guard.VERBS["guard"]


def asked(monkeypatch: pytest.MonkeyPatch, *words: str) -> GuardRequest:
    found: list[GuardRequest] = []

    def keep(request: GuardRequest) -> int:
        found.append(request)
        return 0

    monkeypatch.setattr("headway.guard.guard.guard_command", keep)
    assert VERB(parse(words, VERB.options, settings=False, until_word=True)) == 0
    return found[0]


@pytest.mark.parametrize("dashes", [(), ("--",)])
def test_options_of_the_command_are_the_commands(
    monkeypatch: pytest.MonkeyPatch, dashes: tuple[str, ...]
) -> None:
    command = ("python", "train.py", "--name", "x", "--help", "-q", "--", "--json", "a=b")
    request = asked(monkeypatch, "--restart", "2", *dashes, *command)
    assert request.command == command
    assert (request.restarts, request.name, request.quiet) == (2, "train", False)


def test_all_options(monkeypatch: pytest.MonkeyPatch) -> None:
    request = asked(
        monkeypatch,
        *("--timeout", "1h30m", "--stall-after=90", "--notify", "https://ntfy.sh/x"),
        *("-o", "out", "--name", "mine", "-q", "--", "x"),
    )
    assert (request.timeout_s, request.stall_after_s) == (5400.0, 90.0)
    assert (request.notify, str(request.output_dir)) == ("https://ntfy.sh/x", "out")
    assert (request.name, request.quiet, request.restarts) == ("mine", True, None)


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--timeout", "0", "x"),
        ("--timeout", "soon", "x"),
        ("--stall-after", "-3", "x"),
        ("--restart", "1.5", "x"),
        ("--restart", "often", "x"),
        ("--notify", "ntfy.sh/x", "x"),
        ("--notify", "file:///etc/passwd", "x"),
        ("--name", "../x", "x"),
        ("--tiemout", "3", "x"),
    ],
    ids=" ".join,
)
def test_what_is_wrong_is_refused_with_what_works(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError) as refused:
        asked(monkeypatch, *words)
    assert refused.value.have
    assert refused.value.need
    assert refused.value.remedies
