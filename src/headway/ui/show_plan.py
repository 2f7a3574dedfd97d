"""The one screen of `headway plan`: what was decided, and why, as plain lines."""

from typing import TYPE_CHECKING

from headway.base.units import count, learning_rate, plural, seconds, share, short_count, size
from headway.ui.styled import StyledLine, fact_lines, finding_lines, styled
from headway.ui.text_layout import LABEL, cells, cut, fold, one_line, table

if TYPE_CHECKING:  # its many classes take a while to make, and the first line must not wait
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
_PLAIN = ("text",)  # what need not be said of documents


def plan_lines(plan: "Plan", width: int, *, verbose: bool = False) -> list[StyledLine]:
    """Everything a person should know before a run starts.

    Args:
        plan: what was decided.
        width: columns, 40 to 120.
        verbose: every setting, not only those that somebody chose.

    Returns:
        About 30 lines at 80 columns. Only lines to type may be wider than `width`.
    """
    facts: list[tuple[str, list[str]]] = [
        *_data(plan.data, width),
        ("model", _model(plan.model)),
        ("steps", _steps(plan)),
        ("batch", _batch(plan.steps)),
        ("learning", _learning(plan.learning)),
        ("left out", _left_out(plan)),
        ("memory", _memory(plan)),
        ("machine", _machine(plan)),
        ("time", _time(plan)),
        ("saves", _saves(plan)),
        ("looks", _looks(plan)),
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
        ("rows", [f"of up to {plural(data.max_length, 'token')}", *_rows(data)]),
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


def _read(flow: "StreamPlan") -> list[str]:
    sampled = flow.sampled
    parts = [f"a sample of {size(sampled.bytes)} in {plural(sampled.parts, 'part')} so far"]
    if sampled.whole:
        parts.append(f"counts are about right, tokens within {share(sampled.error)}")
    return [*parts, "the rest while it trains"]


def _sources(sources: tuple[str, ...]) -> list[str]:
    more = len(sources) - 3
    named = [one_line(source) for source in sources[:3]]
    return [*named, f"and {plural(more, 'more', 'more')}"] if more > 0 else named


def _records(data: "DataPlan", noun: str) -> list[str]:
    records = data.records
    about = "about " if data.stream else ""
    shapes = [shape for shape in data.shapes if shape not in _PLAIN]
    taken_for = [f"taken for {' and '.join(shapes)}"] if shapes else []
    twice = [plural(data.duplicates, "duplicate")] if data.duplicates else []
    if not records.rejected:
        return [about + plural(records.accepted, noun), *taken_for, *twice]
    why = ", ".join(f"{count(number)} {reason}" for reason, number in records.rejected.items())
    rejected = records.read - records.accepted
    return [
        f"{about}{plural(records.read, noun)} read",
        f"{count(rejected)} rejected ({why})",
        f"{count(records.accepted)} accepted",
        *taken_for,
        *twice,
    ]


def _rows(data: "DataPlan") -> list[str]:
    rows = data.rows
    terms = ((rows.held_out, "held out"), (rows.planned, "planned"), (rows.not_planned, "not used"))
    kept = [f"{count(number)} {what}" for number, what in terms if number]
    about = "about " if data.stream else ""
    whole = f"{count(rows.accepted)} = {' + '.join(kept)}" if len(kept) > 1 else kept[0]
    parts = [about + whole]
    times, rest = divmod(rows.applications, rows.planned)
    if rest:
        parts.append(f"{count(rows.applications)} trained in all")
    elif times > 1:
        parts.append(f"each trained {times} times, {count(rows.applications)} in all")
    return parts


def _tokens(data: "DataPlan") -> list[str]:
    parts = [f"{count(data.trained_tokens)} of {count(data.tokens)} trained"]
    if data.untrained >= 0.01:
        parts.append(f"{share(data.untrained)} only looked at")
    if data.truncated:
        parts.append(f"{plural(data.truncated, 'conversation')} cut to max_length")
    return parts + [f"{count(number)} {note}" for note, number in data.notes.items()]


def _model(model: "ModelPlan") -> list[str]:
    parent = model.parent
    if parent:
        moments = "its optimizer moments" if parent.keeps_optimizer else "fresh optimizer moments"
        parts = [f"run {parent.run} after global step {count(parent.global_step)}, {moments}"]
    elif model.source == "preset":
        parts = [f"{model.name}, from nothing"]
    else:
        parts = [model.name, "not a run of ours, so it starts at global step 0"]
    parts.append(f"{short_count(model.parameters)} parameters")
    part = f"{short_count(model.trainable)} trained ({share(model.trainable, model.parameters)})"
    parts.append("all trained" if model.trainable == model.parameters else part)
    if model.lora:
        where = ", ".join(model.lora.target_modules)
        parts.append(f"LoRA rank {model.lora.r}, alpha {model.lora.alpha:g}, on {where}")
    if model.trust_remote_code:
        parts.append("runs the code in its folder")
    return parts


def _steps(plan: "Plan") -> list[str]:
    steps = plan.steps
    parts = [f"+{count(steps.num)}: {count(steps.first)} -> {count(steps.last)}"]
    if plan.model.parent:
        source = plan.data.sources[0]
        one_file = len(plan.data.sources) == 1 and source != "-" and "://" not in source
        this = "this file" if one_file else "this data"
        trains = f"{this} trains {plural(steps.num, 'step')}"
        parts.append(f"{trains}, reaching global step {count(steps.last)}")
    if plan.data.stream and not plan.data.stream.sampled.whole:
        return [*parts, "of a stream that does not tell its length"]
    of = f" of {plural(steps.per_epoch, 'step')}" if steps.num != steps.per_epoch else ""
    parts.append("1 epoch" if steps.epochs == 1 else f"{steps.epochs:.3g} epochs{of}")
    return parts


def _batch(steps: "StepsPlan") -> list[str]:
    parts = [f"{plural(steps.batch_size, 'row')} a step", f"about {count(steps.tokens)} tokens"]
    if steps.last_batch != steps.batch_size:
        parts.append(f"{count(steps.last_batch)} in the last of an epoch")
    return [*parts, plural(steps.leaves, "leaf", "leaves")]


def _learning(learning: "LearningPlan") -> list[str]:
    warmup = plural(learning.warmup_steps, "step")
    way = {"constant": "then constant"}.get(learning.schedule, f"then {learning.schedule} to 0")
    return [
        f"{learning.optim} at {learning_rate(learning.peak)}",
        f"{warmup} of warm-up, {way}" if learning.warmup_steps else way.removeprefix("then "),
        f"weight decay {learning.weight_decay:g}",
    ]


def _left_out(plan: "Plan") -> list[str]:
    """What of the data need not be computed, and how much of the work that saves."""
    data, saved = plan.data, plan.time.saved
    shared = f"shared beginnings {share(data.shared)}"
    return [
        f"padding {share(data.padding_to_max)} to max_length, {share(data.padding_to_longest)} "
        f"to a batch's longest row: saves {share(saved.padding)} of the work",
        f"untrained {share(data.untrained)}: saves {share(saved.untrained)}",
        f"{shared}, run for each row all the same: {data.not_shared}"
        if data.not_shared
        else f"{shared}: saves {share(saved.shared)}",
    ]


def _memory(plan: "Plan") -> list[str]:
    """The peak and what it is made of; what is below a twentieth of it is left to --json."""
    memory = plan.memory
    made_of = {
        "process": memory.process,
        "weights": memory.weights,
        "gradients": memory.gradients,
        "optimizer": memory.optimizer,
        "activations": memory.activations,
    }
    largest = sorted(made_of.items(), key=lambda part: part[1], reverse=True)
    shown = [f"{name} {size(part)}" for name, part in largest if part >= memory.peak / 20]
    return [f"{size(memory.peak)} at the peak", *shown]


def _machine(plan: "Plan") -> list[str]:
    machine = plan.machine
    parts = [f"{machine.device} ({machine.why})" if machine.why else machine.device]
    parts += [plural(machine.workers, "worker"), plural(machine.threads, "thread")]
    parts.append(machine.compute_dtype)
    parts += ["compiled"] if machine.compiled else []
    parts += [f"memory by {machine.allocator}"] if machine.allocator else []
    return parts + (["gradient checkpointing"] if machine.gradient_checkpointing else [])


def _time(plan: "Plan") -> list[str]:
    time, data = plan.time, plan.data
    if time.seconds is None or time.tokens_per_second is None:
        parts = ["about, unmeasured", f"{short_count(time.flops)} floating-point operations"]
    else:
        # Trained tokens per second, as the step lines count them while it runs.
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
        parts.append("the best by held-out loss too")
    if saves.keep_every:
        parts.append(f"those of every {plural(saves.keep_every, 'step')} for good")
    return parts


def _looks(plan: "Plan") -> list[str]:
    looks = plan.evaluation
    parts = [f"{plural(looks.probe_rows, 'row')} probed before and after"]
    if plan.data.rows.held_out:
        during = f", every {plural(looks.eval_steps, 'step')}" if looks.eval_steps else ""
        parts.append(f"held-out rows too{during}")
    if looks.sample_steps:
        parts.append(f"a sample every {plural(looks.sample_steps, 'step')}")
    return parts


def _settings(plan: "Plan", width: int, *, verbose: bool) -> list[str]:
    shown = [choice for choice in plan.settings if verbose or choice.origin != "default"]
    rows = [(choice.name, _value(choice)) for choice in shown]
    lines: list[str] = []
    for choice, head in zip(shown, table(rows) if rows else [], strict=True):
        lines += _setting(choice, head, max(cells(line) for line in table(rows)), width)
    hidden = len(plan.settings) - len(shown)
    if hidden:
        more = plural(hidden, "more setting is", "more settings are")
        lines += fold(f"{more} at the default: --verbose", width)
    return lines


def _setting(choice: "Choice", head: str, column: int, width: int) -> list[str]:
    """A setting with where it came from: beside it, or where it is narrow, below it."""
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
