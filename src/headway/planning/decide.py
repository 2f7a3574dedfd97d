"""Plan construction from settings, data, model and machine.

`decide` is a pure function of its arguments. Each part is decided once, in order, from the parts
before it. What was asked for and does not fit is adjusted and reported, or refused with `--exact`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from headway.base.errors import Cause, Finding, Problems, Remedy, UsageError
from headway.base.version import __version__
from headway.config.run_name import make_run_name
from headway.config.settings import Settings
from headway.config.values import AUTO
from headway.data.batching.rows import StoreRows, rows_of
from headway.data.order import StoreOrder
from headway.data.survey.store import Store
from headway.model.presets import config as preset_config
from headway.model.sizes import context_of, lora_parameters, shape_of
from headway.planning.compute import Compute, KnownMachine, decide_fitting
from headway.planning.data_ledger import RowStatistics, advise_data, data_plan, row_statistics
from headway.planning.decision import Decision, all_choices, all_findings
from headway.planning.learning import decide_learning
from headway.planning.memory.estimate import MemoryInputs, estimate_memory
from headway.planning.memory.fit import fit_memory
from headway.planning.model_source import InitialModel
from headway.planning.prefix_sharing import sharing_obstacle
from headway.planning.run_time import (
    advise_evaluation,
    decide_compile,
    decide_saves,
    estimate_time,
)
from headway.planning.sizing import (
    check_rows,
    decide_batch_size,
    decide_held_out,
    decide_max_length,
    decide_num_steps,
    num_full_rows,
)
from headway.planning.step_layout import StepLayout, as_it_fits, fastest_layout
from headway.planning.streaming import decide_order
from headway.planning.workers.routing import idle_share
from headway.planning.workers.worker_count import with_fastest_workers
from headway.runs.identity import identity
from headway.runs.plan import (
    SCHEMA,
    DataPlan,
    EvaluationPlan,
    LearningPlan,
    LoraPlan,
    MachinePlan,
    MemoryPlan,
    ModelPlan,
    Plan,
    SavesPlan,
    StepsPlan,
)

PROBE_ROWS = 64
_TEST_S = 120  # at most, of a test run


@dataclass(frozen=True)
class _Sizes:
    """The rows of the data, and which of them make which step."""

    rows: StoreRows
    statistics: RowStatistics
    order: StoreOrder

    @property
    def step_tokens(self) -> int:
        """Input tokens of a full step, about."""
        return round(self.order.batch_size * self.statistics.mean_full_tokens)


@dataclass(frozen=True)
class _Fit:
    """A step layout that fits in memory."""

    layout: StepLayout
    checkpointing: bool
    memory: MemoryPlan


def decide(
    settings: Settings,
    sources: tuple[str, ...],
    store: Store,
    initial: InitialModel,
    facts: KnownMachine,
) -> Plan:
    """Make the plan.

    Args:
        settings: as given.
        sources: of the data, as typed.
        store: the tokenized data, or a sample of it.
        initial: the weights to start from.
        facts: about this machine.

    Raises:
        DataRefused: the data does not make one row, or loses its answers.
        UsageError: settings contradict each other or the data, or `--exact` forbids an adjustment.
        MachineError: it does not fit in memory.
    """

    def plan(given: Settings) -> Plan:
        return _decide(given, sources, store, initial, facts)

    return with_fastest_workers(settings, facts, plan) if settings.nproc == AUTO else plan(settings)


def _decide(
    settings: Settings,
    sources: tuple[str, ...],
    store: Store,
    initial: InitialModel,
    facts: KnownMachine,
) -> Plan:
    """The plan for a number of workers that is known."""
    sizes = _decide_sizes(settings, store, initial)
    rows, order = sizes.value.rows, sizes.value.order
    model = _model_plan(settings, initial, store, rows.max_length)
    num_steps = _decide_num_steps(settings, sizes.value)
    learning = decide_learning(settings, model, num_steps.value)
    saves = decide_saves(settings, model, num_steps.value)
    evaluation = _evaluation_plan(settings, num_steps.value)
    is_stream = rows.store.survey.sampled is not None
    try_fit = partial(_fit, settings, sizes.value, model, num_steps.value, facts=facts)
    compute, fit = decide_fitting(settings, facts, try_fit, is_stream=is_stream)
    steps = _steps_plan(initial, sizes.value, num_steps.value, fit.value.layout)
    data = data_plan(
        sources, rows, sizes.value.statistics, order, num_steps.value, fit.value.layout
    )
    time = estimate_time(model, steps, data, compute.value, facts)
    compiles = decide_compile(settings, time, compute.value, facts)
    decisions = (sizes, num_steps, learning, saves, compute, fit, compiles)
    advice = advise_data(settings, data, model, rows.store)
    findings = all_findings((*decisions, advice, advise_evaluation(evaluation, data, steps)))
    _refuse_adjustments(findings if settings.exact else ())
    return Plan(
        schema=SCHEMA,
        version=__version__,
        name=settings.run_name or make_run_name(sources[0], trial=settings.test),
        identity=_identity(settings, data, model, steps, learning.value, saves.value, evaluation),
        data=data,
        model=model,
        steps=steps,
        learning=learning.value,
        saves=saves.value,
        evaluation=evaluation,
        memory=fit.value.memory,
        time=time,
        machine=_machine_plan(
            facts,
            compute.value,
            fit.value,
            settings,
            compiled=compiles.value,
            idle=_idle_share(sizes.value, model, compute.value, fit.value),
        ),
        seed=settings.seed,
        max_time_s=_max_time_s(settings),
        grace_s=float(settings.grace_s),
        on_stall=settings.on_stall,
        settings=all_choices(settings, decisions),
        findings=findings,
    )


def _identity(
    settings: Settings,
    data: DataPlan,
    model: ModelPlan,
    steps: StepsPlan,
    learning: LearningPlan,
    saves: SavesPlan,
    evaluation: EvaluationPlan,
) -> str:
    return identity(
        data,
        model,
        steps,
        learning,
        saves,
        evaluation,
        seed=settings.seed,
        bf16=settings.bf16,
        assistant_only_loss=settings.assistant_only_loss,
        reset_optimizer=settings.reset_optimizer,
        truncation=settings.truncation,
        add_special_tokens=settings.add_special_tokens,
    )


# ---- rows and steps ----------------------------------------------------------------------------


def _decide_sizes(settings: Settings, store: Store, initial: InitialModel) -> Decision[_Sizes]:
    """Row length, held-out rows, batch size and row order, each from the one before."""
    context, from_scratch = context_of(initial.config), initial.source == "preset"
    length = decide_max_length(settings, store, context, from_scratch=from_scratch)
    rows = rows_of(store, length.value)
    cuts = check_rows(rows, settings, context)
    statistics, num_full = row_statistics(rows), num_full_rows(rows)
    held_out = decide_held_out(settings, num_full, rows, statistics)
    batch = decide_batch_size(settings, rows, statistics, num_full - held_out.value.num)
    order = decide_order(settings, rows, num_full, held_out.value, batch.value)
    decisions = (length, cuts, held_out, batch, order)
    return Decision(
        _Sizes(rows, statistics, order.value),
        tuple(choice for decision in decisions for choice in decision.choices),
        all_findings(decisions),
    )


def _decide_num_steps(settings: Settings, sizes: _Sizes) -> Decision[int]:
    trained = sizes.step_tokens * sizes.statistics.num_trained / sizes.statistics.num_tokens
    return decide_num_steps(settings, sizes.order, trained)


def _steps_plan(
    initial: InitialModel, sizes: _Sizes, num_steps: int, layout: StepLayout
) -> StepsPlan:
    order = sizes.order
    return StepsPlan(
        first=initial.parent.global_step if initial.parent else 0,
        num=num_steps,
        per_epoch=order.steps_per_epoch,
        epochs=num_steps / order.steps_per_epoch,
        batch_size=order.batch_size,
        last_batch=order.last_batch,
        tokens=sizes.step_tokens,
        leaves=layout.leaves,
        micro_batch_tokens=layout.micro_batch_tokens,
        share_prefixes=layout.share_prefixes,
        leaves_alone=layout.leaves_alone,
    )


# ---- model and machine -------------------------------------------------------------------------


def _model_plan(
    settings: Settings, initial: InitialModel, store: Store, max_length: int
) -> ModelPlan:
    config = _model_config(initial, store, max_length)
    shape = shape_of(config)
    parameters = initial.parameters or shape.parameters
    lora = initial.adapter
    trainable = initial.adapter_parameters if lora else parameters
    if settings.lora and lora is None:
        lora = LoraPlan(
            settings.lora_r,
            float(settings.lora_alpha),
            settings.lora_dropout,
            settings.lora_target_modules,
        )
        trainable = lora_parameters(shape, settings.lora_r)
    return ModelPlan(
        source=initial.source,
        name=initial.name,
        path=initial.path,
        config=config,
        vocab_size=store.survey.vocab_size,
        context=context_of(config),
        weights_sha256=initial.weights_sha256,
        parameters=parameters,
        trainable=trainable,
        trust_remote_code=settings.trust_remote_code,
        lora=lora,
        parent=initial.parent,
        commit=initial.commit,
        base=initial.base,
        load_in_4bit=settings.load_in_4bit,
        stored_bytes=initial.stored_bytes,
    )


def _model_config(initial: InitialModel, store: Store, max_length: int) -> dict[str, Any]:
    if initial.source != "preset":
        return initial.config
    end = store.survey.end_id
    special = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end}
    return preset_config(initial.name, store.survey.vocab_size, max_length, special)


def _fit(
    settings: Settings,
    sizes: _Sizes,
    model: ModelPlan,
    num_steps: int,
    compute: Compute,
    facts: KnownMachine,
) -> Decision[_Fit]:
    """The step layout: the fastest one, or what memory allows of it."""
    rows, statistics, order = sizes.rows, sizes.statistics, sizes.order
    lora_dropout = model.lora.dropout if model.lora else 0.0
    obstacle = sharing_obstacle(model.config, rows.max_length, lora_dropout)
    fastest = fastest_layout(settings, rows, order, sizes.step_tokens, obstacle, compute)
    inputs = MemoryInputs(
        model=model,
        optim=settings.optim,
        shape=shape_of(model.config),
        compute=compute,
        kind=rows.store.survey.kind,
        lengths=statistics.lengths,
        untrained=statistics.untrained,
        step_tokens=sizes.step_tokens,
        num_steps=num_steps,
        layout=fastest,
        checkpointing=bool(settings.gradient_checkpointing),
    )
    fit = fit_memory(inputs, settings, facts)
    checkpointing = fit.value.checkpointing
    leaves, micro = fit.value.leaves, fit.value.micro_batch_tokens
    layout = as_it_fits(fastest, rows, order, leaves=leaves, micro_batch_tokens=micro)
    memory = estimate_memory(replace(inputs, layout=layout, checkpointing=checkpointing), facts)
    return Decision(_Fit(layout, checkpointing, memory), fit.choices, fit.findings)


def _machine_plan(
    facts: KnownMachine,
    compute: Compute,
    fit: _Fit,
    settings: Settings,
    *,
    compiled: bool,
    idle: float,
) -> MachinePlan:
    return MachinePlan(
        device=compute.device,
        why=facts.why,
        threads=compute.threads,
        workers=compute.workers.workers,
        groups=compute.workers.groups,
        reduction=compute.reduction,
        compute_dtype=compute.dtype,
        gradient_checkpointing=fit.checkpointing,
        cpu=facts.machine.cpu,
        allocator=facts.allocator,
        waiting=facts.waiting,
        deterministic=settings.deterministic,
        compiled=compiled,
        idle_share=idle,
    )


def _idle_share(sizes: _Sizes, model: ModelPlan, compute: Compute, fit: _Fit) -> float:
    return idle_share(sizes.rows, sizes.order, fit.layout, shape_of(model.config), compute.workers)


# ---- evaluation, time ----------------------------------------------------------------------------


def _evaluation_plan(settings: Settings, num_steps: int) -> EvaluationPlan:
    return EvaluationPlan(
        probe_rows=PROBE_ROWS,
        eval_steps=settings.eval_steps or 0,
        sample_steps=settings.sample_steps or (num_steps if settings.sample_prompts else 0),
        sample_prompts=settings.sample_prompts,
        sample_tokens=settings.sample_tokens,
    )


def _max_time_s(settings: Settings) -> float | None:
    return min(settings.max_time or _TEST_S, _TEST_S) if settings.test else settings.max_time


# ---- findings ----------------------------------------------------------------------------------


def _refuse_adjustments(findings: Iterable[Finding]) -> None:
    refusals = tuple(
        UsageError(
            finding.what,
            cause=Cause.WOULD_ADJUST,
            have=finding.have,
            need=finding.need,
            remedies=(*finding.remedies, Remedy("leave out --exact")),
        )
        for finding in findings
        if finding.kind == "adjusted"
    )
    if refusals:
        raise refusals[0] if len(refusals) == 1 else Problems(refusals)
