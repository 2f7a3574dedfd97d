"""Check request and result, as they travel between processes. No torch."""

from dataclasses import dataclass

from headway.base.errors import Finding

SCHEMA = "headway.check/1"


@dataclass(frozen=True)
class QuestionRequest:
    """A model to open and to ask.

    Attributes:
        folder: of the model or the adapters.
        base: folder of the base model; "" if nobody knows where it is.
        end_ids: at which its generation ends.
        trust_remote_code: run code that comes with it.
    """

    folder: str
    base: str
    end_ids: tuple[int, ...]
    trust_remote_code: bool = False


@dataclass(frozen=True)
class QuestionResult:
    """What came of asking a model.

    Attributes:
        findings: in order.
        checked: what was looked at and found right, in a few words each.
        skipped: what was not looked at, and why.
    """

    findings: tuple[Finding, ...] = ()
    checked: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class CheckResult:
    """The result of `headway check`.

    Attributes:
        schema: of this value.
        folder: that was checked.
        base: that it was compared with; "" for none.
        findings: problems, the worst first; empty if nothing was found.
        checked: what was looked at and found right.
        skipped: what was not looked at, and why.
    """

    schema: str
    folder: str
    base: str
    findings: tuple[Finding, ...]
    checked: tuple[str, ...]
    skipped: tuple[str, ...]

    @property
    def is_good(self) -> bool:
        """Whether nothing speaks against using it."""
        return not any(finding.kind == "refused" for finding in self.findings)
