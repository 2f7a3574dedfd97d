"""Refusals, their causes and exit codes, and the four parts of a message.

Refusal                    what / have / need / try, and an exit code
|- UsageError       2      the command or a setting is wrong
|- DataRefused      3      the data cannot be trained on
|- BrokenContract   4      it ran, but did not do what was planned
|- MachineError     5      memory, disk, device
|- ComeBack        75      nothing is wrong; start it again later
`- Problems                several of these at once
"""

import functools
import textwrap
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import ClassVar, Literal

from headway.base.addresses import hide_credentials


class Exit(IntEnum):
    """Exit codes, for scripts, systemd, Slurm and Kubernetes."""

    KEPT = 0  # the contract was kept
    BUG = 1  # in Headway
    USAGE = 2  # the command or settings are wrong
    DATA = 3  # the data is refused
    BROKEN = 4  # it ran, but did not do what was planned or did not learn
    MACHINE = 5  # memory, disk, device
    COME_BACK = 75  # saved, and worth starting again
    INTERRUPTED = 130  # Ctrl+C, saved


class Cause(StrEnum):
    """Why something was refused or failed.

    Messages are for people, causes are for code: compare causes, never messages.
    """

    UNKNOWN = "unknown"  # from a log of a version without causes

    # the command and its settings
    UNKNOWN_COMMAND = "unknown_command"
    UNKNOWN_SETTING = "unknown_setting"
    INVALID_VALUE = "invalid_value"
    CONTRADICTION = "contradiction"
    NOT_DETERMINISTIC = "not_deterministic"
    MISSING_ARGUMENT = "missing_argument"
    UNEXPECTED_ARGUMENT = "unexpected_argument"
    CONFIG_INVALID = "config_invalid"
    MISSING_PACKAGE = "missing_package"
    WOULD_ADJUST = "would_adjust"
    OUTPUT_CLOSED = "output_closed"
    UNBOUNDED_STREAM = "unbounded_stream"

    # runs and backups
    RUN_NOT_FOUND = "run_not_found"
    PROCESS_NOT_FOUND = "process_not_found"
    RUN_EXISTS = "run_exists"
    RUN_ACTIVE = "run_active"
    NO_CHECKPOINT = "no_checkpoint"
    NO_RECEIPT = "no_receipt"
    RUN_UNREADABLE = "run_unreadable"
    LOG_DELETED = "log_deleted"
    BACKUP_NOT_FOUND = "backup_not_found"
    BACKUP_DAMAGED = "backup_damaged"
    NEWER_VERSION = "newer_version"

    # models and tokenizers
    MODEL_REQUIRED = "model_required"
    MODEL_NOT_FOUND = "model_not_found"
    MODEL_INVALID = "model_invalid"
    MODEL_NEEDS_CODE = "model_needs_code"
    MODEL_UNSUPPORTED = "model_unsupported"
    WEIGHTS_PICKLED = "weights_pickled"
    WEIGHTS_DAMAGED = "weights_damaged"
    WEIGHTS_MISSING = "weights_missing"
    WEIGHTS_UNUSED = "weights_unused"
    NO_SUCH_MODULE = "no_such_module"
    TOKENIZER_NOT_FOUND = "tokenizer_not_found"
    TOKENIZER_INVALID = "tokenizer_invalid"
    TEMPLATE_INVALID = "template_invalid"

    # where data comes from
    SOURCE_NOT_FOUND = "source_not_found"
    SOURCE_UNREADABLE = "source_unreadable"
    SOURCE_DAMAGED = "source_damaged"
    SOURCE_CHANGED = "source_changed"
    NOT_DATA = "not_data"
    ADDRESS_INVALID = "address_invalid"
    ACCESS_DENIED = "access_denied"
    OFFLINE = "offline"
    NO_ANSWER = "no_answer"
    BAD_ANSWER = "bad_answer"

    # the data
    NO_USABLE_RECORDS = "no_usable_records"
    TOO_MANY_REJECTED = "too_many_rejected"
    MIXED_KINDS = "mixed_kinds"
    TOO_LITTLE_DATA = "too_little_data"
    ANSWERS_CUT = "answers_cut"
    TOKEN_OUTSIDE_EMBEDDING = "token_outside_embedding"  # noqa: S105 - a token of text
    DATA_CHANGED = "data_changed"
    ALREADY_TRAINED = "already_trained"
    UNDONE = "undone"

    # the run itself
    NOT_FINITE = "not_finite"
    WEIGHTS_NOT_FINITE = "weights_not_finite"
    NO_GRADIENT = "no_gradient"
    NOTHING_TRAINABLE = "nothing_trainable"
    LOSS_SPIKE = "loss_spike"
    EMBEDDINGS_UNTRAINED = "embeddings_untrained"
    NOTHING_TO_EVALUATE = "nothing_to_evaluate"
    ENDED_EARLY = "ended_early"
    STOPPED = "stopped"
    CONTRACT_BROKEN = "contract_broken"
    NOT_LEARNED = "not_learned"

    # exports, and finished folders
    EXPORT_DIFFERS = "export_differs"
    EXPORT_UNVERIFIED = "export_unverified"
    TEMPLATE_MISSING = "template_missing"
    END_TOKEN_MISSING = "end_token_missing"  # noqa: S105 - a token of text
    NEVER_ENDS = "never_ends"
    WEIGHTS_ROUNDED = "weights_rounded"

    # the machine
    SLOWER = "slower"
    STRAGGLER = "straggler"
    DISK_FULL = "disk_full"
    NO_INODES = "no_inodes"
    NOT_WRITABLE = "not_writable"
    FILE_TOO_LARGE = "file_too_large"
    WRITE_STALLED = "write_stalled"
    READ_BACK_FAILED = "read_back_failed"
    CHECKPOINT_DAMAGED = "checkpoint_damaged"
    CHECKPOINT_MISMATCH = "checkpoint_mismatch"
    OUT_OF_MEMORY = "out_of_memory"
    SHARED_MEMORY_FULL = "shared_memory_full"
    CACHE_MISSING = "cache_missing"
    NO_DEVICE = "no_device"
    PROCESS_KILLED = "process_killed"
    WORKER_LOST = "worker_lost"
    STALLED = "stalled"
    WEIGHTS_DIFFER = "weights_differ"
    ORDER_DIFFERS = "order_differs"
    TOO_FEW_PROCESSES = "too_few_processes"
    TOO_FEW_OPEN_FILES = "too_few_open_files"
    ADDRESS_SPACE_LIMIT = "address_space_limit"
    LOCKED = "locked"
    BUG = "bug"


@dataclass(frozen=True)
class Remedy:
    """One thing to type or do, and its effect. Remedies are computed, so that they work."""

    do: str
    gives: str = ""


@dataclass(frozen=True)
class Finding:
    """One result of a check, in the four parts of a message."""

    kind: Literal["ok", "adjusted", "warning", "refused"]
    what: str
    have: str = ""
    need: str = ""
    remedies: tuple[Remedy, ...] = ()
    cause: Cause | None = None


class Refusal(Exception):  # noqa: N818 - the word of the whole project
    """A problem that the user can fix. The first line stands alone on a narrow terminal.

    Credentials in its texts are left out.

    Args:
        what: the problem in one line, with the name of the thing.
        cause: the reason, for code to compare.
        have: what was found, with numbers.
        need: what is needed.
        remedies: lines to type or things to do, each of which works.
    """

    code: ClassVar[Exit] = Exit.USAGE

    def __init__(
        self,
        what: str,
        *,
        cause: Cause,
        have: str = "",
        need: str = "",
        remedies: tuple[Remedy, ...] = (),
    ) -> None:
        self.what = hide_credentials(what)
        self.cause = cause
        self.have = hide_credentials(have)
        self.need = hide_credentials(need)
        self.remedies = tuple(
            Remedy(hide_credentials(one.do), hide_credentials(one.gives)) for one in remedies
        )
        super().__init__(self.what)

    def __str__(self) -> str:
        return "\n".join(four_parts(self.what, self.have, self.need, self.remedies))

    def finding(self) -> Finding:
        """The same parts as a value, to store or to send to another process."""
        return Finding("refused", self.what, self.have, self.need, self.remedies, self.cause)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the keyword arguments too, which `Exception` leaves out."""
        parts = {"have": self.have, "need": self.need, "remedies": self.remedies}
        return functools.partial(type(self), self.what, cause=self.cause, **parts), ()


class UsageError(Refusal):
    """The command or a setting is wrong."""

    code = Exit.USAGE


class DataRefused(Refusal):
    """The data cannot be trained on."""

    code = Exit.DATA


class BrokenContract(Refusal):
    """The run did not do what was planned, or did not learn."""

    code = Exit.BROKEN


class MachineError(Refusal):
    """Memory, disk or device are insufficient or failing."""

    code = Exit.MACHINE


class ComeBack(Refusal):
    """The request is fine; start it again later."""

    code = Exit.COME_BACK


class OurBug(Refusal):
    """A process of Headway ended for an unknown reason."""

    code = Exit.BUG


class Problems(Refusal):
    """Several refusals at once, with the exit code of the first."""

    def __init__(self, problems: tuple[Refusal, ...]) -> None:
        super().__init__(f"{len(problems)} problems", cause=problems[0].cause)
        self.problems = problems

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the problems."""
        return Problems, (self.problems,)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


@dataclass(frozen=True)
class RefusalMessage:
    """A refusal as it is sent from one process to another."""

    code: int
    findings: tuple[Finding, ...]


BY_CODE: dict[int, type[Refusal]] = {
    kind.code: kind
    for kind in (UsageError, DataRefused, BrokenContract, MachineError, ComeBack, OurBug)
}


def message_of(refusal: Refusal) -> RefusalMessage:
    """Turn a refusal into a value."""
    if isinstance(refusal, Problems):
        findings = tuple(problem.finding() for problem in refusal.problems)
        return RefusalMessage(exit_code(refusal), findings)
    return RefusalMessage(exit_code(refusal), (refusal.finding(),))


def refusal_from(value: RefusalMessage) -> Refusal:
    """Turn a value back into a refusal, of the class that its exit code names."""
    kind = BY_CODE.get(value.code, UsageError)
    refusals = tuple(
        kind(f.what, cause=f.cause or Cause.UNKNOWN, have=f.have, need=f.need, remedies=f.remedies)
        for f in value.findings
    )
    return refusals[0] if len(refusals) == 1 else Problems(refusals)


def exit_code(refusal: Refusal) -> Exit:
    """The exit code of the process."""
    if isinstance(refusal, Problems):
        return exit_code(refusal.problems[0])
    return refusal.code


def four_parts(
    what: str, have: str, need: str, remedies: tuple[Remedy, ...], width: int = 100
) -> list[str]:
    """The lines of a message.

    A remedy's `do` and `gives` share a line if they fit in `width` columns.
    """
    lines = [what]
    if have:
        lines += _labeled("have", have, width)
    if need:
        lines += _labeled("need", need, width)
    column = max((len(r.do) for r in remedies if r.gives and len(r.do) <= 36), default=0)
    for remedy in remedies:
        text = f"{remedy.do:{column}}   {remedy.gives}" if remedy.gives else remedy.do
        # A line to type is never wrapped, so that it can be copied.
        lines += [f"  try   {text}"] if len(text) + 8 <= width else _wrapped_remedy(remedy, width)
    return lines


def _labeled(label: str, text: str, width: int) -> list[str]:
    first, *rest = [
        part for line in text.splitlines() for part in textwrap.wrap(line, width - 8) or [""]
    ]
    return [f"  {label}  {first}", *(f"        {part}" for part in rest)]


def _wrapped_remedy(remedy: Remedy, width: int) -> list[str]:
    explained = textwrap.wrap(remedy.gives, width - 12)
    return [f"  try   {remedy.do}", *(f"            {part}" for part in explained)]
