"""Error boundary around foreign input: any error from reading it becomes a refusal that names it.

A model folder, a tokenizer, a template, a data file and a remote answer were all written elsewhere.
The libraries that read them raise what they like, and each new version raises something else.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass

from headway.base.errors import Cause, Refusal, Remedy, UsageError

_SHOWN_CHARACTERS = 300


class Interruption(BaseException):
    """Ends work for a reason outside of what is being read: it passes every boundary."""


@dataclass(frozen=True)
class Boundary:
    """What is being read, and what to do if it cannot be.

    Attributes:
        what: the first line of the refusal, with the name of the file.
        cause: for code to compare.
        need: what is needed instead.
        remedies: each of them works.
        kind: the class of the refusal, and so its exit code.
        passes: says of an error that it has nothing to do with what is read, and stays as it is.
    """

    what: str
    cause: Cause
    need: str
    remedies: tuple[Remedy, ...]
    kind: type[Refusal] = UsageError
    passes: Callable[[Exception], bool] = lambda _: False

    @contextmanager
    def __call__(self) -> Generator[None]:
        """Guard a block.

        Raises:
            Refusal: whatever the block raised; a refusal of its own is left as it is.
        """
        try:
            yield
        except Refusal:
            raise
        except Exception as error:
            if self.passes(error):
                raise
            raise self.refusal(describe(error)) from error
        except BaseException as error:
            if not _is_panic(error):
                raise
            raise self.refusal(describe(error)) from error

    def refusal(self, have: str) -> Refusal:
        """The refusal.

        Args:
            have: what was found.
        """
        return self.kind(
            self.what, cause=self.cause, have=have, need=self.need, remedies=self.remedies
        )


def describe(error: BaseException) -> str:
    """An error as text for people: what it says, or else its name."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, MemoryError):
        return "needs more memory than a process that reads may take"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines)[:_SHOWN_CHARACTERS]
    is_clear = text and not isinstance(error, LookupError | AttributeError | TypeError)
    return text if is_clear else f"{type(error).__name__}: {text}".removesuffix(": ")


def _is_panic(error: BaseException) -> bool:
    """Whether a library written in Rust panicked; its class has no module to import it from."""
    return type(error).__name__ == "PanicException"
