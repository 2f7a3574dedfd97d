"""Every option of an inbox is a flag, too."""

from headway.commands.services.inbox_switches import OPTIONS, SWITCHES
from headway.inbox.option_values import READERS


def test_every_option_can_be_typed() -> None:
    assert set(OPTIONS) == set(READERS)
    assert set(OPTIONS) <= set(SWITCHES)
