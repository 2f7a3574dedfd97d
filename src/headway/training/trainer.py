"""Trainer: the part every rank runs: setup, trials, steps, evaluation, samples, audit."""

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import astuple, replace
from functools import partial
from pathlib import Path

import msgspec

from headway.base.errors import Finding
from headway.base.events import Event, Noted, Sampled
from headway.base.pulse import Phase, Pulse
from headway.data.batching.batches import Batch, make_batch, prefetch
from headway.model.load import reads_as_stored, trainable
from headway.model.sizes import shape_of, square_weight
from headway.runs.folder import RunFolder
from headway.runs.plan import Plan
from headway.runs.receipt import Losses, Measured, StepReport, TensorAudit
from headway.runs.settled import Settled
from headway.runs.workers import ReceiptWorker, Routed, WorkerTree
from headway.training.distributed.messages import EvaluatedRows
from headway.training.distributed.place import ONLY_WORKER, TeamPlace
from headway.training.distributed.team import ALONE, LedTeam, Team
from headway.training.evaluation.audit import audit, compare_saved
from headway.training.evaluation.evaluate import Probes, mean_of
from headway.training.evaluation.sample import samples
from headway.training.failures import halve_micro_batch
from headway.training.ledger import Totals
from headway.training.optimizer import learning_rate
from headway.training.phases import Phases
from headway.training.setup import Setup, StartState, find_start, set_up
from headway.training.step import Stepper
from headway.training.trials.largest_batch import try_largest_batch
from headway.training.trials.micro_batch_trial import try_sizes
from headway.training.trials.settle import settle
from headway.training.weights.checkpoint import Snapshot, load_weights, stored_parameters
from headway.training.weights.holding import WHOLE, Holding
from headway.training.weights.initial_weights import starting_model

Guard = Callable[[], AbstractContextManager[None]]


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

    stepper_kind: type[Stepper] = Stepper

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
        self.settled = settled
        self.setup = setup
        self.totals = start.totals
        self.stepper = make_stepper(plan, setup, start, team, phase.pulse, self.stepper_kind)
        self.probes = Probes(setup.rows, setup.order, setup.forward, plan, settled, phase, team.own)
        self._rejected = folder.path / "rejected.jsonl"
        self._phase = phase
        self._routed = Routed()
        self.before = start.before or self.measure()

    @property
    def weights_are_counted(self) -> bool:
        """Whether the weights are those after the last counted step, not in an update."""
        return self.stepper.at_step == self.totals.job_step

    @property
    def others_memory(self) -> int:
        """Bytes that the other workers take at most, with what all of them share."""
        return sum(one.peak_memory for one in self.team.totals[1:]) + self.team.shared_bytes

    def workers(self) -> tuple[ReceiptWorker, ...]:
        """What each of several workers did, for the receipt."""
        return tuple(
            ReceiptWorker(
                one.rank,
                one.group,
                one.rows,
                *astuple(one.spent.shares),
                cost=self._routed.share_of(one.rank),
                spare=self._routed.spare_of(one.rank),
            )
            for one in self.team.totals
        )

    def batches(self, on_wait: Callable[[], None]) -> Generator[Batch, None, None]:
        """The batches of all steps that are left.

        Args:
            on_wait: called while one is awaited; may end the wait by an exception.
        """
        self._phase.pulse.count_time()
        steps, first = self.plan.steps, self.totals.job_step + 1
        self.team.begin(first, self.settled.micro_batch_tokens)
        make = batch_maker(self.plan, self.settled, self.setup, self.team)
        return prefetch(make, first, steps.num, self._phase.pulse, on_wait=on_wait)

    def count(self, batch: Batch, report: StepReport) -> None:
        """Add a step whose update is in the weights to the totals."""
        tree = WorkerTree(len(self.team.totals) or 1)
        self._routed = self._routed.add(tree.costs(batch.costs))
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

    def snapshot(self) -> Snapshot:
        """Memory for copies of the state, to be saved."""
        setup = self.setup
        return Snapshot(setup.forward.weights, setup.optimizer, setup.parameters)

    def measure(self, may_leave: Guard = nullcontext) -> Losses:
        """The losses of the probe rows and the held-out rows, as they are now.

        Args:
            may_leave: entered while losses are computed, and now and then while other workers are
                waited for; may leave with an exception at any time.
        """
        probe = self._measure(EvaluatedRows.PROBE, may_leave)
        return Losses(probe, self.measure_held_out(may_leave))

    def measure_held_out(
        self, may_leave: Guard = nullcontext, *, steps_follow: bool = False
    ) -> Measured | None:
        """The loss of the held-out rows, None if there are none.

        Args:
            may_leave: as for `measure`.
            steps_follow: all workers continue with the next step.
        """
        if not self.probes.has_held_out:
            return None
        return self._measure(EvaluatedRows.HELD_OUT, may_leave, steps_follow=steps_follow)

    def _measure(
        self, rows: EvaluatedRows, may_leave: Guard, *, steps_follow: bool = False
    ) -> Measured:
        """The loss of some rows, evaluated by all workers.

        Messages are outside of `may_leave`: one that is half read would be the last.
        """

        def leave_if_due() -> None:
            with may_leave():
                pass

        with self.probes.phase(rows):
            tokens = self.probes.micro_batch_tokens
            self.team.ask_to_evaluate(rows, tokens, steps_follow=steps_follow)
            with may_leave():
                own = self.probes.sums(rows)
            return mean_of(self.team.collect(self.totals.job_step, own, leave_if_due))

    def samples(self, global_step: int) -> Iterator[Sampled]:
        """Text of the current weights."""
        with self._phase(Phase.SAMPLING, total=self.plan.evaluation.sample_tokens, unit="tokens"):
            yield from samples(self.setup.forward, self.plan, global_step, self._phase.pulse)

    def audit(self, checkpoint: Path | None) -> TensorAudit:
        """Compare the weights with those that the job started from, which are made again.

        Where a run continues another one, and transformers takes tensors as they are stored, both
        checkpoints are read as they are, which takes a fraction of the time. Only what is the same
        bit for bit counts then; whatever is not is loaded by transformers, too.

        Args:
            checkpoint: saved after the last step; its weights are loaded and compared too.

        Raises:
            MachineError: the checkpoint does not load into this model.
        """
        with self._phase(Phase.AUDITING_WEIGHTS):
            if checkpoint and (found := self._audit_as_stored(checkpoint)):
                return found
            model, parameters = starting_model(self.plan), self.setup.parameters
            found = audit(parameters, trainable(model), self.stepper.no_gradient_yet)
            if checkpoint is None:
                return found
            load_weights(model, checkpoint)
            return compare_saved(found, parameters, trainable(model))

    def _audit_as_stored(self, checkpoint: Path) -> TensorAudit | None:
        """The audit of what is stored; None if that does not show that all of it was saved."""
        model, parameters = self.plan.model, self.setup.parameters
        if not model.parent or not reads_as_stored(self.setup.forward.weights):
            return None
        start = stored_parameters(Path(model.path), parameters)
        saved = stored_parameters(checkpoint, parameters)
        if start is None or saved is None:
            return None
        found = compare_saved(
            audit(parameters, start, self.stepper.no_gradient_yet), parameters, saved
        )
        return None if found.differing else found


def make_stepper(
    plan: Plan,
    setup: Setup,
    start: StartState,
    team: Team,
    pulse: Pulse,
    kind: type[Stepper] = Stepper,
) -> Stepper:
    """What takes the steps of a job, the same in every worker."""
    return kind(
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
        square_weight=square_weight(shape_of(plan.model.config)),
    )


def start_trainer(
    folder: RunFolder,
    plan: Plan,
    settled: Settled,
    phase: Phases,
    report: Callable[[Event], None],
    place: TeamPlace = ONLY_WORKER,
    on_stop: Callable[[str], None] = lambda _: None,
    holding: Holding = WHOLE,
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
        holding: how the model is held.

    Raises:
        Refusal: it cannot start; nothing was trained.
    """
    with phase(Phase.LOADING_MODEL):
        setup = set_up(plan, settled, phase.pulse, holding)
    start = find_start(folder, plan, setup, phase, report)
    show_totals(phase.pulse, plan, start.totals)
    parameters = list(setup.parameters.values())
    team = place.lead(parameters, plan.steps.leaves, settled.reduction, on_stop)
    with phase(Phase.CHECKING_PACKING):
        now, findings = settle(plan, settled, setup.rows, setup.order, setup.forward, phase)
        team.start(_as_computed(now, setup), _folder_of(start))
        if not settled.has_tried:
            now, more = try_largest_batch(
                plan, now, setup.rows, setup.order, setup.forward, phase, team
            )
            now, faster = try_sizes(plan, now, setup.rows, setup.order, setup.forward, phase)
            now, findings = replace(now, has_tried=True), findings + more + faster
        if now != settled:
            now.save(folder.path)
    for finding in findings:
        report(Noted(finding))
    return Trainer(folder, plan, now, setup, start, phase, team), start


def _as_computed(settled: Settled, setup: Setup) -> bytes:
    """What the other workers need to compute as the root does, which may have failed to compile."""
    return msgspec.json.encode(replace(settled, compiled=setup.forward.compiled))


def _folder_of(start: StartState) -> str:
    return str(start.checkpoint.path.resolve()) if start.checkpoint else ""


def show_totals(pulse: Pulse, plan: Plan, totals: Totals) -> None:
    """Show in the pulse where a job is."""
    pulse.steps = plan.steps.num
    pulse.step = totals.job_step
    pulse.global_step = plan.steps.first + totals.job_step
    pulse.rows, pulse.tokens = totals.applications, totals.trained_tokens
    pulse.loss = totals.loss_last or 0.0
    pulse.skipped = sum(plan.data.records.rejected.values())
    pulse.beat()
