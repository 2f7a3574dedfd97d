"""Help: every verb in the overview, every option on its own page."""

import pytest

from headway.cli import VERBS
from headway.commands.help import overview_lines, verb_lines


def test_the_overview_has_a_line_for_each_verb() -> None:
    lines = overview_lines(VERBS)
    for verb in VERBS.values():
        assert sum(verb.usage in line and line.endswith(verb.help) for line in lines) == 1
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("name", VERBS)
def test_a_page_has_the_usage_and_each_option(name: str) -> None:
    lines = verb_lines(VERBS[name])
    assert lines[0] == f"headway {VERBS[name].usage}"
    text = "\n".join(lines)
    for option, switch in VERBS[name].options.items():
        assert f"--{option.replace('_', '-')}" in text
        assert switch.help in " ".join(text.split())
    assert ("--learning-rate" in text) == VERBS[name].settings
