"""Trainer: the part every rank runs: setup, trials, steps, evaluation, samples, audit."""

from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path

from headway.base.errors import Finding
from headway.base.events import Event, Noted, Sampled
from headway.base.pulse import Phase, Pulse
from headway.data.batching.batches import Batch, make_batch, prefetch
from headway.model.load import trainable
from headway.runs.folder import RunFolder
from headway.runs.plan import Plan
from headway.runs.receipt import Losses, Measured, ReceiptWorker, StepReport, TensorAudit
from headway.runs.settled import Settled
from headway.training.distributed.place import ONLY_WORKER, TeamPlace
from headway.training.distributed.team import ALONE, LedTeam, Team
from headway.training.evaluation.audit import audit, compare_saved
from headway.training.evaluation.evaluate import Probes
from headway.training.evaluation.sample import samples
from headway.training.failures import halve_micro_batch
from headway.training.ledger import Totals
from headway.training.optimizer import learning_rate
from headway.training.phases import Phases
from headway.training.setup import Setup, StartState, find_start, set_up
from headway.training.step import Stepper
from headway.training.trials.settle import settle
from headway.training.weights.checkpoint import load_weights
from headway.training.weights.initial_weights import starting_model


class Trainer:
    """A job that is ready for its next step.

    Args:
        folder: of the run.
        plan: of the run.
        settled: after the trials.
        setup: as `start` restored it.
        start: where the job starts.
        phase: current phase.
        team: the workers of the run.

    Attributes:
        settled: how micro-batches run now.
        setup: data, model and optimizer.
        stepper: takes the steps.
        probes: the rows that are evaluated.
        before: the losses before the job's first update.
        totals: of all applied steps.
    """

    def __init__(
        self,
        folder: RunFolder,
        plan: Plan,
        settled: Settled,
        setup: Setup,
        start: StartState,
        phase: Phases,
        team: LedTeam = ALONE,
    ) -> None:
        self.plan = plan
        self.team = team
        self._checkpoint = str(start.checkpoint.path.resolve()) if start.checkpoint else ""
        self.settled = settled
        self.setup = setup
        self.totals = start.totals
        self.stepper = make_stepper(plan, setup, start, team, phase.pulse)
        self.probes = Probes(setup.rows, setup.order, setup.forward, plan, settled, phase)
        self._rejected = folder.path / "rejected.jsonl"
        self._phase = phase
        self.before = start.before or self.measure()

    @property
    def weights_are_counted(self) -> bool:
        """Whether the weights are those after the last counted step, not in an update."""
        return self.stepper.at_step == self.totals.job_step

    @property
    def others_memory(self) -> int:
        """Bytes that the other workers take at most, with what all of them share."""
        return sum(one.peak_memory for one in self.team.totals[1:]) + self.team.shared_bytes

    def workers(self, steps_s: float) -> tuple[ReceiptWorker, ...]:
        """What each of several workers did, for the receipt.

        Args:
            steps_s: seconds of all steps of this attempt.
        """
        return tuple(
            ReceiptWorker(one.rank, one.group, one.rows, one.computing_s / max(steps_s, 1e-9))
            for one in self.team.totals
        )

    def batches(self, on_wait: Callable[[], None]) -> Generator[Batch, None, None]:
        """The batches of all steps that are left.

        Args:
            on_wait: called while one is awaited; may end the wait by an exception.
        """
        steps, first = self.plan.steps, self.totals.job_step + 1
        self.team.begin(first, self.settled.micro_batch_tokens, self._checkpoint)
        make = batch_maker(self.plan, self.settled, self.setup, self.team)
        return prefetch(make, first, steps.num, self._phase.pulse, on_wait=on_wait)

    def count(self, batch: Batch, report: StepReport) -> None:
        """Add a step whose update is in the weights to the totals."""
        totals = self.totals.add(report, self.stepper.carried_R, batch.planned_R)
        self.totals = self.setup.with_position(totals, batch, self._rejected)

    def halve_micro_batch(self, error: Exception) -> Finding:
        """Continue with micro-batches half as large, from the step that ran out of memory.

        Raises:
            Exception: `error`, if that cannot help.
        """
        micro = self.stepper.micro if self.weights_are_counted else None
        self.settled, finding = halve_micro_batch(self.plan, self.settled, micro, error)
        return finding

    def measure(self) -> Losses:
        """The losses of the probe rows and the held-out rows, as they are now."""
        return self.probes.measure()

    def measure_held_out(self) -> Measured | None:
        """The loss of the held-out rows, None if there are none."""
        return self.probes.measure_held_out()

    def samples(self, global_step: int) -> Iterator[Sampled]:
        """Text of the current weights."""
        with self._phase(Phase.SAMPLING, total=self.plan.evaluation.sample_tokens, unit="tokens"):
            yield from samples(self.setup.forward, self.plan, global_step, self._phase.pulse)

    def audit(self, checkpoint: Path | None) -> TensorAudit:
        """Compare the weights with those that the job started from, which are made again.

        Args:
            checkpoint: saved after the last step; its weights are loaded and compared too.

        Raises:
            MachineError: the checkpoint does not load into this model.
        """
        with self._phase(Phase.AUDITING_WEIGHTS):
            model, parameters = starting_model(self.plan), self.setup.parameters
            found = audit(parameters, trainable(model), self.stepper.no_gradient_yet)
            if checkpoint is None:
                return found
            load_weights(model, checkpoint)
            return compare_saved(found, parameters, trainable(model))


def make_stepper(plan: Plan, setup: Setup, start: StartState, team: Team, pulse: Pulse) -> Stepper:
    """What takes the steps of a job, the same in every worker."""
    return Stepper(
        setup.forward,
        setup.optimizer,
        setup.parameters,
        rate=partial(learning_rate, plan.learning, num_steps=plan.steps.num),
        max_grad_norm=plan.learning.max_grad_norm,
        first=plan.steps.first,
        seed=plan.seed,
        pulse=pulse,
        at_step=start.totals.job_step,
        no_gradient_yet=start.no_gradient_yet,
        team=team,
    )


def batch_maker(plan: Plan, settled: Settled, setup: Setup, team: Team) -> Callable[[int], Batch]:
    """What makes the batch of a step, with the leaves that one worker computes."""
    return partial(
        make_batch,
        setup.rows,
        setup.order,
        leaves=plan.steps.leaves,
        micro_batch_tokens=settled.micro_batch_tokens,
        device=plan.machine.device,
        share=settled.share_prefixes,
        own=team.own,
    )


def start_trainer(
    folder: RunFolder,
    plan: Plan,
    settled: Settled,
    phase: Phases,
    report: Callable[[Event], None],
    place: TeamPlace = ONLY_WORKER,
    on_stop: Callable[[str], None] = lambda _: None,
) -> tuple[Trainer, StartState]:
    """Set a job up, restore its state, run the trials that are due.

    Args:
        folder: of the run; settled.json is written there once the trials are done.
        plan: of the run.
        settled: planned values, or those of an earlier attempt.
        phase: current phase.
        report: gets what was restored and what was adjusted.
        place: of this process among the workers.
        on_stop: called with who asked another worker to stop.

    Raises:
        Refusal: it cannot start; nothing was trained.
    """
    with phase(Phase.LOADING_MODEL):
        setup = set_up(plan, settled, phase.pulse)
    start = find_start(folder, plan, setup, phase, report)
    show_totals(phase.pulse, plan, start.totals)
    with phase(Phase.CHECKING_PACKING):
        now, findings = settle(plan, settled, setup.rows, setup.order, setup.forward, phase)
        if now != settled:
            now.save(folder.path)
    for finding in findings:
        report(Noted(finding))
    team = place.lead(list(setup.parameters.values()), plan.steps.leaves, on_stop)
    return Trainer(folder, plan, now, setup, start, phase, team), start


def show_totals(pulse: Pulse, plan: Plan, totals: Totals) -> None:
    """Show in the pulse where a job is."""
    pulse.steps = plan.steps.num
    pulse.step = totals.job_step
    pulse.global_step = plan.steps.first + totals.job_step
    pulse.rows, pulse.tokens = totals.applications, totals.trained_tokens
    pulse.loss = totals.loss_last or 0.0
    pulse.skipped = sum(plan.data.records.rejected.values())
    pulse.beat()
