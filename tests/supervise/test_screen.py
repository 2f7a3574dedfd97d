"""The protocol that every screen fulfils."""

import io

import pytest

from headway.supervise.screen import Screen
from headway.ui.screens import make_screen

MEMBERS = {name for name in vars(Screen) if not name.startswith("_")}


@pytest.mark.parametrize("options", [{}, {"quiet": True}, {"json": True}, {"verbose": True}])
def test_a_screen_of_any_kind_fulfils_it(options: dict[str, bool]) -> None:
    screen: Screen = make_screen(io.StringIO(), io.StringIO(), **options)
    assert sorted(name for name in MEMBERS if name not in dir(screen)) == []
    screen.say("a line")
    assert screen.max_silence >= 0
    screen.close()
