"""Whatever is raised inside a boundary is a refusal that names the thing; what passes, passes."""

import pytest

from headway.base.errors import Cause, DataRefused, Remedy, UsageError
from headway.base.foreign.boundary import Boundary, Interruption, describe

CONFIG = Boundary(
    "m/config.json is not valid",
    cause=Cause.MODEL_INVALID,
    need="a JSON object",
    remedies=(Remedy("copy the file again"),),
)


class PanicException(BaseException):
    """What a library written in Rust raises when it panics."""


@pytest.mark.parametrize(
    "error", [ValueError("no"), KeyError("a"), RecursionError(), MemoryError(), PanicException("x")]
)
def test_anything_raised_is_a_refusal_with_four_parts(error: BaseException) -> None:
    with pytest.raises(UsageError) as caught, CONFIG():
        raise error
    refusal = caught.value
    assert (refusal.what, refusal.cause) == ("m/config.json is not valid", Cause.MODEL_INVALID)
    assert refusal.have == describe(error)
    assert refusal.have
    assert refusal.need
    assert refusal.remedies
    assert refusal.__cause__ is error


def test_a_refusal_an_interruption_and_a_key_press_pass() -> None:
    for error in (DataRefused("x", cause=Cause.NOT_DATA), Interruption(), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, CONFIG():
            raise error
        assert caught.value is error


def test_what_has_nothing_to_do_with_the_thing_stays_as_it_is() -> None:
    boundary = Boundary(
        "x", Cause.MODEL_INVALID, "", (), passes=lambda error: isinstance(error, MemoryError)
    )
    with pytest.raises(MemoryError), boundary():
        raise MemoryError


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("one\n  two\n\nthree"), "one two three"),
        (ValueError(), "ValueError"),
        (KeyError("size"), "KeyError: 'size'"),
        (ValueError("x" * 1000), "x" * 300),
    ],
)
def test_an_error_is_described_in_one_line(error: Exception, said: str) -> None:
    assert describe(error) == said
