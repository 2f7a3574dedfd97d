"""The phases a process can be in."""

from enum import StrEnum


class Phase(StrEnum):
    """What a process is busy with, in the words a person reads.

    Pulses, events and receipts carry the text; code compares members. A log may name phases of
    another Headway, so a phase that was read is a plain string until `Phase.parse` knows it.
    """

    STARTING = "starting"
    IMPORTING_TORCH = "importing torch"
    IMPORTING_TRANSFORMERS = "importing transformers"

    FINDING_DATA = "finding the data"
    LOOKING_UP_MODEL = "looking up the model"
    DOWNLOADING_MODEL = "downloading the model"
    HASHING_MODEL = "hashing the model"
    READING = "reading"
    LOADING_TOKENIZER = "loading the tokenizer"
    TRAINING_TOKENIZER = "training a tokenizer"
    TOKENIZING = "tokenizing"
    PLANNING = "planning"

    PREPARING = "preparing"
    LOADING_MODEL = "loading the model"
    LOADING_CHECKPOINT = "loading the checkpoint"
    CHECKING_PACKING = "checking the packing"
    COMPILING = "compiling"
    TRYING_LARGEST_BATCH = "trying the largest batch"
    PROBING = "probing"
    TRAINING = "training"
    EVALUATING = "evaluating"
    SAMPLING = "sampling"
    SAVING = "saving"
    AUDITING_WEIGHTS = "auditing the weights"
    WRITING_RECEIPT = "writing the receipt"

    VERIFYING_CHECKPOINT = "verifying the checkpoint"
    VERIFYING_BACKUP = "verifying the backup"
    BACKING_UP_CURRENT = "backing up the current run"
    COPYING = "copying"
    READING_LOG = "reading the log"
    RECOMPUTING = "recomputing"
    ANSWERING = "answering"

    @classmethod
    def parse(cls, text: str) -> "Phase | None":
        """The phase with this text; None for one this version does not know."""
        return next((phase for phase in cls if phase.value == text), None)
