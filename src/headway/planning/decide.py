"""Decide everything before anything runs: settings, survey, model and machine -> Plan.

A pure function of its arguments. Each decision is a `Choice` with its reason; where a person's
wish does not fit the data it is adjusted and said (or refused, with `--exact`).
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from headway.base import units
from headway.base.errors import Finding, Problems, Remedy, UsageError
from headway.base.version import __version__
from headway.config.settings import Settings
from headway.data.batching.rows import StoreRows, rows_of
from headway.data.order import StoreOrder, StreamOrder
from headway.data.survey.store import Store
from headway.model.presets import config as preset_config
from headway.model.sizes import ModelShape, context_of, lora_parameters, shape_of
from headway.planning.data_ledger import account
from headway.planning.memory import Need, fit_memory, foretell_memory
from headway.planning.prefix_sharing import LEAST, against, saving
from headway.planning.run_time import Here, compiling_pays, foretell_time, usual_seconds
from headway.planning.sizing import (
    Notes,
    check_rows,
    fit_batch,
    fit_held_out,
    fit_length,
    fit_pieces,
    fit_steps,
    too_small,
)
from headway.planning.streaming import flow_of, num_rows, order_of
from headway.runs.plan import (
    SCHEMA,
    Choice,
    DataPlan,
    LearningPlan,
    LooksPlan,
    LoraPlan,
    MachinePlan,
    ModelPlan,
    Parent,
    Plan,
    SavesPlan,
    StepsPlan,
    TimePlan,
    identity,
    name_after,
)

PROBE_ROWS = 64
_DEVICES = {"cpu": "processor", "cuda": "GPU"}
_PEAK_RATES = {"tiny": 3e-3, "mini": 3e-3, "small": 1e-3, "base": 6e-4}


@dataclass(frozen=True)
class Start:
    """The weights to start from, as far as they are known without loading them."""

    source: Literal["preset", "folder", "run"]
    name: str
    path: str  # "" for a preset
    config: dict[str, Any] = field(default_factory=dict[str, Any])  # empty for a preset
    parameters: int = 0
    weights_sha256: str = ""
    adapter: LoraPlan | None = None  # what a folder of adapters was made with
    adapter_parameters: int = 0
    parent: Parent | None = None
    commit: str = ""  # on the hub, of a model that was fetched


def decide(
    settings: Settings, sources: tuple[str, ...], store: Store, start: Start, here: Here
) -> Plan:
    """Make the plan.

    Raises:
        DataRefused: the data does not make one row, or loses its answers.
        UsageError: settings contradict each other or the data, or `--exact` meets an adjustment.
        MachineError: it does not fit in memory.
    """
    notes = Notes()
    from_nothing = start.source == "preset"
    context = context_of(start.config)
    max_length = fit_length(settings, store, context, from_nothing=from_nothing, notes=notes)
    rows = rows_of(store, max_length)
    check_rows(rows, settings, context, notes)
    num_full = num_rows(rows)
    held_out = fit_held_out(settings, num_full, notes)
    batch_size = fit_batch(settings, rows, num_full - held_out, notes)
    order = order_of(settings, rows, num_full, held_out, batch_size, notes)
    config = _config(start, store, max_length)
    shape = shape_of(config)
    first = start.parent.global_step if start.parent else 0
    model = _model(settings, start, store, config, shape)
    alone = against(config, max_length, model.lora.dropout if model.lora else 0.0)
    pieces = fit_pieces(settings, rows, order, alone, here.device)
    steps = fit_steps(settings, rows, order, first, pieces, notes)
    data = replace(
        account(sources, rows, order, steps, flow_of(rows, order)),
        shared=pieces.shared,
        not_shared=pieces.not_shared,
    )
    learning = _learning(settings, start, steps, model, notes)
    saves = _saves(settings, steps, model, notes)
    machine = _machine(settings, here, notes)
    _advise(settings, data, model, notes)
    need = Need(model, shape, steps, data, machine, saves)
    fits, memory = fit_memory(need, settings, here, notes)
    if fits.steps.micro_batch_tokens < steps.micro_batch_tokens:
        fits = _sharing_less(fits, rows, order)
        memory = foretell_memory(fits, here)
    steps, data, machine = fits.steps, fits.data, fits.machine
    time = foretell_time(model, shape, steps, data, machine, here)
    machine = replace(machine, compiled=_compiles(settings, time, machine, here, notes))
    if settings.exact:
        _refuse_adjustments(notes)
    looks = _looks(settings, steps)
    return Plan(
        schema=SCHEMA,
        version=__version__,
        name=settings.run_name or name_after(sources[0], trial=settings.test),
        identity=identity(data, model, steps, learning, saves, looks, settings),
        data=data,
        model=model,
        steps=steps,
        learning=learning,
        saves=saves,
        looks=looks,
        memory=memory,
        time=time,
        machine=machine,
        seed=settings.seed,
        max_time_s=settings.max_time if not settings.test else min(settings.max_time or 120, 120),
        grace_s=float(settings.grace_s),
        settings=_choices(settings, notes),
        findings=tuple(notes.findings),
    )


def _config(start: Start, store: Store, max_length: int) -> dict[str, Any]:
    if start.source != "preset":
        return start.config
    end = store.survey.end_id
    special = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end}
    return preset_config(start.name, store.survey.vocab_size, max_length, special)


def _model(
    settings: Settings, start: Start, store: Store, config: dict[str, Any], shape: ModelShape
) -> ModelPlan:
    parameters = start.parameters or shape.parameters
    lora = start.adapter
    trainable = start.adapter_parameters if lora else parameters
    if settings.lora and lora is None:
        lora = LoraPlan(
            settings.lora_r,
            float(settings.lora_alpha),
            settings.lora_dropout,
            settings.lora_target_modules,
        )
        trainable = lora_parameters(shape, settings.lora_r)
    return ModelPlan(
        source=start.source,
        name=start.name,
        path=start.path,
        config=config,
        vocab_size=store.survey.vocab_size,
        context=context_of(config),
        weights_sha256=start.weights_sha256,
        parameters=parameters,
        trainable=trainable,
        trust_remote_code=settings.trust_remote_code,
        lora=lora,
        parent=start.parent,
        commit=start.commit,
    )


def _learning(
    settings: Settings, start: Start, steps: StepsPlan, model: ModelPlan, notes: Notes
) -> LearningPlan:
    peak = settings.learning_rate
    if peak is None:
        if start.source == "preset":
            peak, why = _PEAK_RATES[start.name], f"usual for {start.name} from nothing"
        elif model.lora:
            peak, why = 2e-4, "usual for LoRA"
        else:
            peak, why = 2e-5, "usual for full fine-tuning"
        notes.auto("learning_rate", peak, why)
    return LearningPlan(
        optim=settings.optim,
        peak=peak,
        schedule=settings.lr_scheduler_type,
        warmup_steps=_warmup(settings, steps, notes),
        weight_decay=settings.weight_decay,
        beta1=settings.adam_beta1,
        beta2=settings.adam_beta2,
        epsilon=settings.adam_epsilon,
        max_grad_norm=settings.max_grad_norm,
    )


def _warmup(settings: Settings, steps: StepsPlan, notes: Notes) -> int:
    asked = settings.warmup_steps
    tenth = steps.num // 10
    if asked is None:
        warmup = min(100, steps.num // 20)
        notes.auto("warmup_steps", warmup, "a twentieth of the steps, at most 100")
        return warmup
    warmup = round(asked * steps.num) if asked < 1 else round(asked)
    if warmup >= steps.num:
        finding = Finding(
            "adjusted",
            f"warm-up becomes {tenth:,} steps: it would have lasted the whole job",
            have=f"warmup_steps {asked:g}, {units.plural(steps.num, 'step')}",
            need="fewer warm-up steps than steps",
            remedies=(Remedy(f"--warmup-steps {tenth}", "a tenth of the steps"),),
        )
        notes.adjusted("warmup_steps", tenth, settings.origin("warmup_steps"), finding)
        return tenth
    return warmup


def _saves(settings: Settings, steps: StepsPlan, model: ModelPlan, notes: Notes) -> SavesPlan:
    every = settings.save_steps
    if every is None:
        every = max(steps.num // 4, 50)
        notes.auto("save_steps", every, "a quarter of the job, and at the end")
    state = 4 * model.trainable * 3  # weights, and two moments each, in fp32
    keep_every = settings.keep_every
    by_steps = set(range(every, steps.num + 1, every)) | {steps.num}
    if keep_every:
        by_steps |= set(range(keep_every, steps.num + 1, keep_every))
    return SavesPlan(
        every_steps=every,
        every_minutes=float(settings.save_minutes),
        keep=settings.save_total_limit,
        num=len(by_steps),
        bytes_each=state,
        keep_every=keep_every,
    )


def _looks(settings: Settings, steps: StepsPlan) -> LooksPlan:
    return LooksPlan(
        probe_rows=PROBE_ROWS,
        eval_steps=settings.eval_steps or 0,
        sample_steps=settings.sample_steps or (steps.num if settings.sample_prompts else 0),
        sample_prompts=settings.sample_prompts,
        sample_tokens=settings.sample_tokens,
    )


def _sharing_less(need: Need, rows: StoreRows, order: StoreOrder | StreamOrder) -> Need:
    """What smaller micro-batches than were planned at first still share."""
    steps, data = need.steps, need.data
    if not steps.share_prefixes:
        return need
    found = saving(rows, order, steps.leaves, steps.micro_batch_tokens)
    if found.share >= LEAST:
        return replace(need, data=replace(data, shared=found.share))
    why = too_small(steps.micro_batch_tokens)
    alone = replace(steps, share_prefixes=False)
    return replace(need, steps=alone, data=replace(data, not_shared=why))


def _machine(settings: Settings, here: Here, notes: Notes) -> MachinePlan:
    threads = settings.threads or here.machine.cores
    if not settings.threads:
        notes.auto("threads", threads, "cores this process may use")
    if not settings.device:
        notes.auto("device", here.device, here.why)
    bf16 = settings.bf16
    if bf16 is None:
        bf16 = here.is_faster_in_bf16(threads)
        why = "products are much faster" if bf16 else "products are not much faster in bf16"
        notes.auto("bf16", bf16, f"{why} on this {_DEVICES.get(here.device, here.device)}")
    return MachinePlan(
        device=here.device,
        why=here.why,
        threads=threads,
        workers=1,
        compute_dtype="bfloat16" if bf16 else "float32",
        gradient_checkpointing=bool(settings.gradient_checkpointing),
        cpu=here.machine.cpu,
        allocator=here.allocator,
    )


def _compiles(
    settings: Settings, time: TimePlan, machine: MachinePlan, here: Here, notes: Notes
) -> bool:
    """Whether compiling is tried: it takes some seconds, and makes every step a little shorter."""
    if settings.torch_compile is not None:
        return settings.torch_compile
    seconds = min(usual_seconds(time, machine, here), settings.max_time or math.inf)
    pays = compiling_pays(seconds) and not settings.test
    if machine.device != "cpu":
        pays, why = False, "was not measured on a GPU"
    elif not pays:
        why = "the run is too short for it to pay"
    elif not here.compiler:
        pays, why = False, "it would pay, but there is no C++ compiler here (headway doctor)"
    else:
        why = f"pays in about {units.seconds(seconds)}; tried before step 1"
    notes.auto("torch_compile", pays, why)
    return pays


def _advise(settings: Settings, data: DataPlan, model: ModelPlan, notes: Notes) -> None:
    tokens = data.trained_tokens
    if model.source == "preset" and tokens < model.parameters:
        notes.warn(
            f"{units.count(tokens)} tokens for {units.short_count(model.parameters)} weights: "
            "it will repeat your text",
            f"{tokens / model.parameters:.2g} tokens per weight",
            "about 20 per weight to write new text",
            Remedy(
                "more text", "or a smaller --preset, or --model with weights that know a language"
            ),
        )
    rejected = sum(data.records.rejected.values())
    if rejected:
        reasons = ", ".join(f"{n:,} {why}" for why, n in data.records.rejected.items())
        notes.warn(
            f"{units.plural(rejected, 'record')} of {data.records.read:,} cannot be trained on",
            reasons,
            "",
            Remedy("rejected.jsonl in the run's folder", "each with file, line and reason"),
        )
    if settings.test:
        notes.findings.append(Finding("ok", "a trial: at most 20 steps and two minutes"))


def _refuse_adjustments(notes: Notes) -> None:
    refusals = tuple(
        UsageError(
            f.what, have=f.have, need=f.need, remedies=(*f.remedies, Remedy("leave out --exact"))
        )
        for f in notes.findings
        if f.kind == "adjusted"
    )
    if refusals:
        raise refusals[0] if len(refusals) == 1 else Problems(refusals)


def _choices(settings: Settings, notes: Notes) -> tuple[Choice, ...]:
    return tuple(
        notes.choices.get(name) or Choice(name, value, origin)
        for name, value, origin in settings.items()
    )
