"""A clock for tests."""


class Clock:
    """Time that a test moves by hand."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s
