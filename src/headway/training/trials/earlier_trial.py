"""Earlier trial: what packing does to a model, as the run that is continued has found out."""

from pathlib import Path

from headway.base.errors import Refusal
from headway.runs.folder import Checkpoint, RunFolder
from headway.runs.plan import Plan
from headway.runs.settled import Settled, load_settled


def earlier_trial(plan: Plan, num_tokens: int, versions: dict[str, str]) -> Settled | None:
    """The settled values of the run that is continued, if its trial of packing holds here, too.

    It does for the same model on the same device, computed by the same versions, if the documents
    were as long. Weights that were never trained hide what a model does: that run's have to have
    been trained before. A model that runs its documents separately is tried again, and so is one
    with code of its own, which may have changed.

    Args:
        plan: of the run.
        num_tokens: of the shorter one of the two documents that would be tried.
        versions: that compute now.
    """
    parent = plan.model.parent
    if parent is None or plan.model.trust_remote_code:
        return None
    run = RunFolder(Path(parent.run))
    try:
        before = run.plan()
        if before is None or before.model.parent is None or _computed(before) != _computed(plan):
            return None
        settled = load_settled(run.path, before)
        state = Checkpoint(Path(parent.checkpoint), parent.global_step).state()
    except (Refusal, OSError):
        return None
    holds = settled.has_tried and settled.tried_tokens >= num_tokens
    is_same = state.versions == versions and not settled.run_separately
    return settled if holds and is_same else None


def _computed(plan: Plan) -> object:
    """What a trial of packing depends on, besides weights and documents."""
    model = plan.model
    return model.config, model.lora, model.load_in_4bit, model.base, plan.machine.device
