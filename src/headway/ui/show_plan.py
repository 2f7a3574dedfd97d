"""Plan display: every decision and its reason."""

from typing import TYPE_CHECKING

from headway.base.units import count, learning_rate, plural, seconds, share, short_count, size
from headway.config.optimizers import OPTIMIZERS
from headway.runs.workers import MENTIONED_IDLE
from headway.ui.styled import StyledLine, fact_lines, finding_lines, styled
from headway.ui.text_layout import LABEL, cells, cut, fold, one_line, table

if TYPE_CHECKING:  # slow to import, and the first line must not wait
    from headway.data.replay_plan import ReplayPlan
    from headway.runs.plan import (
        Choice,
        DataPlan,
        LearningPlan,
        ModelPlan,
        Plan,
        StepsPlan,
        StreamPlan,
    )

_NOUNS = {"text": "document", "conversations": "conversation", "tokens": "record"}
_SHOWN_NAMES = 3
_OBVIOUS_SHAPES = ("text",)  # not worth mentioning


def plan_lines(plan: "Plan", width: int, *, verbose: bool = False) -> list[StyledLine]:
    """What a person should know before a run starts.

    Args:
        plan: what was decided.
        width: columns, 40 to 120.
        verbose: show every setting, not only those that are not at their default.

    Returns:
        About 30 lines at 80 columns. Only commands to copy may be wider than `width`.
    """
    facts: list[tuple[str, list[str]]] = [
        *_data(plan.data, width),
        ("model", _model(plan.model)),
        *([("inherited", inherited)] if (inherited := _inherited(plan)) else []),
        ("steps", _steps(plan)),
        ("batch", [*_batch(plan.steps), *_replayed(plan.replay)]),
        ("learning", _learning(plan.learning, plan.steps.num)),
        ("savings", _savings(plan)),
        ("memory", _memory(plan)),
        ("machine", _machine(plan)),
        *([("workers", _alternatives(plan))] if plan.machine.alternatives else []),
        ("time", _time(plan)),
        ("saves", _saves(plan)),
        ("eval", _evaluation(plan)),
    ]
    lines = styled([cut(f"plan for {one_line(plan.name)}", width), ""])
    for label, parts in facts:
        lines += fact_lines(label, parts, width)
    lines += styled(["", *_settings(plan, width, verbose=verbose)])
    for finding in plan.findings:
        if finding.kind != "ok":
            lines += [StyledLine(), *finding_lines(finding, width)]
    return lines


def _data(data: "DataPlan", width: int) -> list[tuple[str, list[str]]]:
    noun = _NOUNS[data.kind]
    room = width - LABEL
    lengths = data.lengths
    return [
        ("data", [*_sources(data.sources), size(data.bytes), *_records(data, noun)]),
        *([("read", _read(data.stream))] if data.stream else []),
        *([("not read", _passed_over(data))] if data.passed_over else []),
        ("rows", [f"up to {plural(data.max_length, 'token')}", *_rows(data)]),
        ("tokens", _tokens(data)),
        (
            "lengths",
            [f"{plural(lengths.max, 'token')} each"]
            if lengths.mean == lengths.max
            else [
                f"mean {count(lengths.mean)}",
                f"median {count(lengths.median)}",
                f"95% up to {count(lengths.p95)}",
                f"longest {count(lengths.max)}",
            ],
        ),
        ("example", fold(cut(one_line(data.marked_example), room * 3 // 2), room)),
        ("tokenizer", [data.tokenizer_from]),
    ]


def _read(stream: "StreamPlan") -> list[str]:
    sampled = stream.sampled
    parts = [f"a sample of {size(sampled.bytes)} in {plural(sampled.parts, 'part')} so far"]
    if sampled.whole:
        parts.append(f"counts are estimates, tokens within {share(sampled.error)}")
    return [*parts, "the rest during training"]


def _passed_over(data: "DataPlan") -> list[str]:
    """What is not read, with the names of a few."""
    parts: list[str] = []
    for passed in data.passed_over:
        names = ", ".join(map(one_line, passed.names[:_SHOWN_NAMES]))
        more = f" and {count(more)} more" if (more := passed.num - _SHOWN_NAMES) > 0 else ""
        parts.append(f"{passed.reason}: {names}{more}")
    return parts


def _sources(sources: tuple[str, ...]) -> list[str]:
    more = len(sources) - 3
    named = [one_line(source) for source in sources[:3]]
    return [*named, f"and {plural(more, 'more', 'more')}"] if more > 0 else named


def _records(data: "DataPlan", noun: str) -> list[str]:
    records = data.records
    about = "about " if data.stream else ""
    shapes = [shape for shape in data.shapes if shape not in _OBVIOUS_SHAPES]
    read_as = [f"read as {' and '.join(shapes)}"] if shapes else []
    from headway.data.formats.records import RejectReason

    kept = data.duplicates - records.rejected.get(RejectReason.DUPLICATE, 0)
    duplicates = [f"{plural(kept, 'duplicate')} (--drop-duplicates trains one of each)"]
    duplicates = duplicates if kept > 0 else []
    if not records.rejected:
        return [about + plural(records.accepted, noun), *read_as, *duplicates]
    why = ", ".join(f"{count(number)} {reason}" for reason, number in records.rejected.items())
    rejected = records.read - records.accepted
    return [
        f"{about}{plural(records.read, noun)} read",
        f"{count(rejected)} rejected ({why})",
        f"{count(records.accepted)} accepted",
        *read_as,
        *duplicates,
    ]


def _rows(data: "DataPlan") -> list[str]:
    rows = data.rows
    terms = ((rows.held_out, "held out"), (rows.planned, "planned"), (rows.not_planned, "not used"))
    kept = [f"{count(number)} {what}" for number, what in terms if number]
    about = "about " if data.stream else ""
    whole = f"{count(rows.accepted)} = {' + '.join(kept)}" if len(kept) > 1 else kept[0]
    parts = [about + whole]
    if data.twin_places:
        parts.append(f"{count(len(data.twin_places))} not held out: an identical row is trained")
    elif data.stream and rows.held_out:
        parts.append("rows identical to held-out ones are not looked for")
    times, rest = divmod(rows.applications, rows.planned)
    if rest:
        parts.append(f"{count(rows.applications)} trained in total")
    elif times > 1:
        parts.append(f"each trained {times} times, {count(rows.applications)} in total")
    return parts


def _tokens(data: "DataPlan") -> list[str]:
    parts = [f"{count(data.trained_tokens)} of {count(data.tokens)} trained"]
    if data.untrained >= 0.01:
        parts.append(f"{share(data.untrained)} context only")
    if data.truncated:
        parts.append(f"{plural(data.truncated, 'conversation')} truncated to max_length")
    return parts + [f"{count(number)} {note}" for note, number in data.notes.items()]


def _model(model: "ModelPlan") -> list[str]:
    parent = model.parent
    if parent:
        moments = "its optimizer moments" if parent.keeps_optimizer else "new optimizer moments"
        parts = [f"run {parent.run} at global step {count(parent.global_step)} with {moments}"]
    elif model.source == "preset":
        parts = [f"{model.name}, from scratch"]
    else:
        parts = [model.name, "not a Headway run: global steps start at 0"]
    parts.append(f"{short_count(model.parameters)} parameters")
    part = f"{short_count(model.trainable)} trained ({share(model.trainable, model.parameters)})"
    parts.append("all trained" if model.trainable == model.parameters else part)
    if model.lora:
        where = ", ".join(model.lora.target_modules)
        parts.append(f"LoRA rank {model.lora.r}, alpha {model.lora.alpha:g}, on {where}")
    if model.load_in_4bit:
        parts.append("frozen weights in 4 bits (NF4)")
    if model.trust_remote_code:
        parts.append("runs the code in its folder")
    return parts


def _inherited(plan: "Plan") -> list[str]:
    """The settings of the run that is continued, as far as they still apply."""
    kept = [choice for choice in plan.settings if choice.inherited and choice.asked is None]
    named = [f"{choice.name} {_value(choice)}" for choice in kept]
    return [*named, f"as in {kept[0].origin}"] if kept else []


def _steps(plan: "Plan") -> list[str]:
    steps = plan.steps
    parts = [f"+{count(steps.num)}: {count(steps.first)} -> {count(steps.last)}"]
    if plan.model.parent:
        source = plan.data.sources[0]
        one_file = len(plan.data.sources) == 1 and source != "-" and "://" not in source
        this = "this file" if one_file else "this data"
        adds = f"{this} adds {plural(steps.num, 'step')}"
        parts.append(f"{adds}, reaching global step {count(steps.last)}")
    if plan.data.stream and not plan.data.stream.sampled.whole:
        return [*parts, "length of the stream unknown"]
    of = f" of {plural(steps.per_epoch, 'step')}" if steps.num != steps.per_epoch else ""
    parts.append("1 epoch" if steps.epochs == 1 else f"{steps.epochs:.3g} epochs{of}")
    return parts


def _batch(steps: "StepsPlan") -> list[str]:
    parts = [f"{plural(steps.batch_size, 'row')} per step", f"about {count(steps.tokens)} tokens"]
    if steps.last_batch != steps.batch_size:
        parts.append(f"{count(steps.last_batch)} in the last batch of an epoch")
    return [*parts, plural(steps.leaves, "leaf", "leaves")]


def _replayed(replay: "ReplayPlan | None") -> list[str]:
    if replay is None:
        return []
    sources = plural(len(replay.sources), "earlier run")
    return [f"{plural(replay.num_rows, 'row')} of {sources} replayed in addition"]


def _learning(learning: "LearningPlan", num_steps: int) -> list[str]:
    warmup = plural(learning.warmup_steps, "warmup step")
    decay = f"{learning.schedule} to 0"
    if learning.schedule in ("constant", "wsd"):
        num = learning.decay_steps(num_steps)
        decay = f"constant, in the last {plural(num, 'step')} down to 0" if num else "constant"
    besides = OPTIMIZERS[learning.optim].besides
    return [
        f"{learning.optim} at {learning_rate(learning.peak)}",
        *([besides] if besides else []),
        f"{warmup}, then {decay}" if learning.warmup_steps else decay,
        f"weight decay {learning.weight_decay:g}",
    ]


def _savings(plan: "Plan") -> list[str]:
    """The parts of the data that need no computation, and the work that this saves."""
    data, saved = plan.data, plan.time.saved
    shared = f"shared prefixes {share(data.shared)}"
    return [
        f"padding {share(data.padding_to_max)} to max_length, {share(data.padding_to_longest)} "
        f"to the batch's longest row: saves {share(saved.padding)} of the work",
        f"untrained {share(data.untrained)}: saves {share(saved.untrained)}",
        f"{shared}, computed for each row: {data.not_shared}"
        if data.not_shared
        else f"{shared}: saves {share(saved.shared)}",
    ]


def _memory(plan: "Plan") -> list[str]:
    """The peak and its parts of at least 5%; --json has all of them."""
    memory = plan.memory
    parts = {
        "process": memory.process,
        "weights": memory.weights,
        "gradients": memory.gradients,
        "optimizer": memory.optimizer,
        "activations": memory.activations,
    }
    largest = sorted(parts.items(), key=lambda part: part[1], reverse=True)
    shown = [f"{name} {size(part)}" for name, part in largest if part >= memory.peak / 20]
    host = [f"{size(memory.host)} of the host's for saves"] if memory.host else []
    return [f"{size(memory.peak)} peak", *shown, *host]


def _machine(plan: "Plan") -> list[str]:
    machine = plan.machine
    parts = [f"{machine.device} ({machine.why})" if machine.why else machine.device]
    parts += _workers(plan)
    parts.append(machine.compute_dtype)
    parts += ["compiled"] if machine.compiled else []
    parts += [f"{machine.allocator} allocator"] if machine.allocator else []
    parts += [machine.waiting] if machine.waiting else []
    parts += ["deterministic kernels"] if machine.deterministic else []
    return parts + (["gradient checkpointing"] if machine.gradient_checkpointing else [])


def _alternatives(plan: "Plan") -> list[str]:
    """What `--nproc auto` chose from, and why it chose as it did."""
    data, parts = plan.data, list[str]()
    for one in plan.machine.alternatives:
        how = f"{one.workers} x {plural(one.threads, 'thread')}"
        if one.tokens_per_second:  # trained tokens, like the step lines
            speed = one.tokens_per_second * data.trained_tokens / data.tokens
            parts.append(f"{how}: {count(speed)} tok/s")
        elif one.workers == plan.machine.workers:
            parts.append(f"{how}: not measured")
        else:
            parts.append(f"{how}: not measured, a run with --nproc {one.workers} does")
    return [f"{plan.machine.workers}: {plan.choice('nproc').reason}", *parts]


def _workers(plan: "Plan") -> list[str]:
    machine = plan.machine
    if machine.workers == 1:
        return ["1 worker", plural(machine.threads, "thread")]
    groups = f" in {machine.groups} groups" if machine.groups > 1 else ""
    parts = [f"{machine.workers} workers{groups}", f"{plural(machine.threads, 'thread')} each"]
    parts += [f"{machine.reduction} reduction"]
    idle = machine.idle_share
    return parts + ([f"idle {share(idle)} of the time"] if idle >= MENTIONED_IDLE else [])


def _time(plan: "Plan") -> list[str]:
    time, data = plan.time, plan.data
    if time.seconds is None or time.tokens_per_second is None:
        parts = ["not measured yet", f"{short_count(time.flops)} floating-point operations"]
    else:
        # Trained tokens per second, like the step lines during training.
        speed = time.tokens_per_second * data.trained_tokens / data.tokens
        parts = [f"about {seconds(time.seconds)}", f"{count(speed)} tok/s"]
    return parts + ([f"stops after {seconds(plan.max_time_s)}"] if plan.max_time_s else [])


def _saves(plan: "Plan") -> list[str]:
    saves = plan.saves
    every = f"every {plural(saves.every_steps, 'step')} or {seconds(60 * saves.every_minutes)}"
    parts = [
        f"{plural(saves.num, 'checkpoint')} of {size(saves.bytes_each)}, {every}",
        f"newest {saves.keep} kept" if saves.keep > 1 else "newest kept",
    ]
    if plan.evaluation.eval_steps and plan.data.rows.held_out:
        parts.append("best by held-out loss kept")
    if saves.keep_every:
        parts.append(f"one every {plural(saves.keep_every, 'step')} kept permanently")
    return parts + ([f"on a stall: {plan.on_stall}"] if plan.on_stall != "restart" else [])


def _evaluation(plan: "Plan") -> list[str]:
    evaluation = plan.evaluation
    parts = [f"{plural(evaluation.probe_rows, 'row')} probed before and after"]
    if plan.data.rows.held_out:
        every = plural(evaluation.eval_steps, "step")
        parts.append(f"held-out rows too{f', every {every}' if evaluation.eval_steps else ''}")
    if evaluation.sample_steps:
        parts.append(f"a sample every {plural(evaluation.sample_steps, 'step')}")
    return parts


def _settings(plan: "Plan", width: int, *, verbose: bool) -> list[str]:
    shown = [choice for choice in plan.settings if verbose or choice.origin != "default"]
    rows = [(choice.name, _value(choice)) for choice in shown]
    lines: list[str] = []
    for choice, head in zip(shown, table(rows) if rows else [], strict=True):
        lines += _setting(choice, head, max(cells(line) for line in table(rows)), width)
    hidden = len(plan.settings) - len(shown)
    if hidden:
        more = plural(hidden, "more setting")
        lines += fold(f"{more} at the default (--verbose shows all)", width)
    return lines


def _setting(choice: "Choice", head: str, column: int, width: int) -> list[str]:
    """A setting and its origin: side by side, or one below the other where it is narrow."""
    origin = f"{choice.origin}: {choice.reason}" if choice.reason else choice.origin
    room = width - column - 2
    if room >= min(24, cells(origin)):
        first, *rest = fold(origin, room)
        indent = " " * (column + 2)
        return [f"{head}{' ' * (column - cells(head))}  {first}", *(indent + x for x in rest)]
    return [cut(head, width), *("  " + line for line in fold(origin, width - 2))]


def _value(choice: "Choice") -> str:
    match choice.value:
        case None:
            return "none"
        case bool():
            return "true" if choice.value else "false"
        case int():
            return count(choice.value)
        case float() if 0 < choice.value < 0.01:
            return learning_rate(choice.value)
        case float():
            return f"{choice.value:g}"
        case list() | tuple():
            return one_line(", ".join(map(str, choice.value))) or "none"
        case _:
            return cut(one_line(str(choice.value)), 40)
