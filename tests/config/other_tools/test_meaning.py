"""The kinds of meaning, and their short forms."""

from headway.config.other_tools.meaning import (
    Answer,
    Outcome,
    missing,
    needless,
    not_here,
    not_needed,
    renamed,
    words,
    write,
)


def test_the_short_forms_are_of_their_outcome() -> None:
    assert renamed("seed", "random_seed").outcome is Outcome.RENAMED
    assert not_needed("it is always so", "x").outcome is Outcome.NOT_NEEDED
    assert not_here("there is none", "x").outcome is Outcome.NOT_HERE
    assert needless("it is off").outcome is Outcome.NOT_NEEDED
    assert write(("seed", "1")) == Answer(Outcome.RENAMED, (("seed", "1"),))


def test_what_is_not_here_decides_the_result_unless_it_is_told_otherwise() -> None:
    assert missing("there is none").decides
    assert not missing("there is none", decides=False).decides
    assert not_here("there is none", "x").decides
    assert not not_here("there is none", "x", decides=False).decides


def test_names_may_stand_on_several_lines() -> None:
    assert words("a b\n    c") == ["a", "b", "c"]
