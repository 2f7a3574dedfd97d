"""Go on from the newest checkpoint that verifies, and put away those that do not."""

from headway.base.errors import Finding
from headway.base.events import EventLog, Noted, Resumed
from headway.base.pulse import Phase
from headway.runs.checkpoint_state import CheckpointState
from headway.runs.folder import Checkpoint, RunFolder
from headway.runs.plan import Plan
from headway.training.ledger import Ledger
from headway.training.phases import Phases
from headway.training.setup import Setup, none_verifies, resume


def go_on(
    folder: RunFolder, plan: Plan, setup: Setup, ledger: Ledger, log: EventLog, phase: Phases
) -> tuple[Checkpoint, CheckpointState] | None:
    """Put everything back as the newest checkpoint that verifies has it; None where none was made.

    Args:
        folder: the run's.
        plan: the run's.
        setup: gets the weights and moments.
        ledger: gets the sums.
        log: told where it goes on, and of each checkpoint that was moved to quarantine.
        phase: what it is doing meanwhile.

    Raises:
        MachineError: there were checkpoints, and none verifies: nothing is moved, and nothing is
            started over unasked.
    """
    folder.delete_leftovers()
    if not folder.checkpoints():
        if folder.model.is_symlink():
            raise none_verifies(folder, "no checkpoint, though one was saved")
        return None
    with phase(Phase.LOADING_CHECKPOINT):
        checkpoint, damaged = folder.newest_verified()
        if checkpoint is None:
            raise none_verifies(folder, str(damaged[0]))
        state = resume(setup, plan, checkpoint, ledger)
    for one in damaged:
        moved = folder.quarantine(folder.path / one.name).relative_to(folder.path)
        what = f"{one}: moved to {moved}, going on from {checkpoint.path.name}"
        log.write(Noted(Finding("warning", what)))
    log.write(Resumed(checkpoint.path.name, checkpoint.global_step))
    return checkpoint, state
