"""Answer of `headway diagnose`: the job, why it is not making progress, and the evidence."""

from dataclasses import dataclass, replace

from headway.base.errors import Exit
from headway.diagnose.diagnosis import Diagnosis, StallCause
from headway.diagnose.evidence.facts import Evidence
from headway.diagnose.redaction import hide_in_finding

SCHEMA = "headway.diagnosis/1"


@dataclass(frozen=True)
class DiagnosisAnswer:
    """What `headway diagnose --json` prints.

    Attributes:
        schema: of this.
        job: the run's name, or "process N".
        state: of the run, as `headway status` has it; "running" for a process.
        running: whether there is anything to look at.
        diagnosis: None if nothing runs.
        evidence: None if nothing runs.
    """

    schema: str
    job: str
    state: str
    running: bool
    diagnosis: Diagnosis | None = None
    evidence: Evidence | None = None

    @classmethod
    def of(
        cls, job: str, state: str, evidence: Evidence, diagnosis: Diagnosis
    ) -> "DiagnosisAnswer":
        """An answer that may be shown: secrets are left out of what the diagnosis says."""
        shown = replace(diagnosis, finding=hide_in_finding(diagnosis.finding))
        return cls(SCHEMA, job, state, running=True, diagnosis=shown, evidence=evidence)

    @property
    def exit_code(self) -> Exit:
        """4 if something runs and nobody can say why it is not making progress."""
        unknown = self.diagnosis is not None and self.diagnosis.cause is StallCause.UNKNOWN
        return Exit.BROKEN if unknown else Exit.KEPT
