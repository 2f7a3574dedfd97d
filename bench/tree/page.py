"""Page of a simulation: what was measured, what was checked, and what nobody ran."""

import statistics
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

_COSTS = {
    "message_s": ("a message of 64 bytes, at either end", 1e6, "us"),
    "latency_s": ("from its end of sending to the receiver's start", 1e6, "us"),
    "byte_s": ("a long message, at either end", 1e9, "s/GB"),
    "report_pack_s": ("packing a worker's report", 1e6, "us"),
    "report_unpack_s": ("unpacking it", 1e6, "us"),
    "root_report_s": ("what the root does with it", 1e6, "us"),
    "worker_s": ("a worker's own handling of a step, sums left out", 1e6, "us"),
    "copy_byte_s": ("copying into shared memory", 1e9, "s/GB"),
    "add_byte_s": ("adding there", 1e9, "s/GB"),
    "clone_byte_s": ("copying out of it", 1e9, "s/GB"),
}


def as_page(found: dict[str, Any]) -> str:
    """All of it as Markdown."""
    here = found["machine"]
    lines = [
        f"# Workers by the thousand, simulated, {found['date']}",
        "",
        f"{here['cpu']}, {here['cores']} cores, {here['memory']} of memory, {here['system']}; "
        f"{found['rounds']} rounds, {found['seconds']:.0f} s; the machine's load was "
        f"{found['load_before']:.1f} before and {found['load_after']:.1f} after.",
        "",
        "**Measured** are the costs of messages and sums on this machine, and the steps of 2 to 8 "
        "workers. **Simulated** is everything else: no cluster was at hand. The links between "
        "machines, the size of the model, the seconds of computing and the time to restart are "
        "assumed, and each table says so.",
        *_measured(found),
        *checked(found),
        *_simulated(found),
        *_formula(found["formula"]),
    ]
    return "\n".join(lines) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|---|" + "--:|" * (len(head) - 1)
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _measured(found: dict[str, Any]) -> Iterator[str]:
    presets = [*found["measured"]]
    yield from ("", "## Measured: costs on this machine", "")
    yield (
        "Seconds of one core, medians of the rounds; memory with all cores busy. Processes of "
        "their own, connected by pairs of sockets and by memory that all map."
    )
    yield ""
    rows: list[list[str]] = []
    for name, (what, times, unit) in _COSTS.items():
        values = [f"{found['measured'][preset][name] * times:.3g} {unit}" for preset in presets]
        rows.append([what, *values])
    yield from _table(["", *(f"gradients of `{preset}`" for preset in presets)], rows)


def checked(found: dict[str, Any]) -> Iterator[str]:
    """What was predicted of few workers, beside what was measured."""
    yield from ("", "## Checked: 2 to 8 workers, predicted and measured", "")
    sizes = [f"{size / 1e6:.0f} MB" for size in found["gradient_bytes"].values()]
    yield (
        "Headway's own workers, as processes. `reports alone`: both exchanges of a step, with "
        f"sums of one number for each parameter. `mini`, `small`: with gradients of {sizes[0]} and "
        f"{sizes[1]}. `a whole step`: `headway train` on text with `mini`; what a leaf takes is "
        "from a run of one worker. Two workers' reports alone gave a worker's own handling: that "
        "row is a fit, all others are predictions. Core seconds are of all workers together. A "
        "ratio is measured over predicted, its least and most over the rounds in parentheses. The "
        "clock also counts what others did on this machine meanwhile; beside the median of the "
        "steps is the least, the one that was disturbed least."
    )
    yield from ("", *_agreement(found["checked"]), "")
    kinds: dict[tuple[str, int, int], list[dict[str, Any]]] = {}
    for one in found["checked"]:
        kinds.setdefault((one["what"], one["workers"], one["groups"]), []).append(one)
    head = ["", "workers", "groups", "predicted, ms", "measured, ms"]
    head += ["ratio", "least, ms", "ratio", "predicted, core ms", "measured, core ms", "ratio"]
    yield from _table(head, (_compared(*kind, ones) for kind, ones in kinds.items()))
    if found["not_checked"]:
        yield from ("", f"Whole steps were not measured here: {found['not_checked']}.")


def _agreement(ones: Sequence[dict[str, Any]]) -> Iterator[str]:
    """How far apart prediction and measurement are, over everything."""
    for measured, predicted, said in (
        ("measured_core_s", "predicted_core_s", "core seconds"),
        ("least_s", "predicted_s", "the clock's least"),
        ("measured_s", "predicted_s", "the clock's median"),
    ):
        ratios = sorted(one[measured] / one[predicted] for one in ones)
        tenth = len(ratios) // 10
        yield (
            f"- {said}: {statistics.median(ratios):.2f} times the prediction, eight of ten between "
            f"{ratios[tenth]:.2f} and {ratios[-1 - tenth]:.2f}."
        )


def _compared(what: str, workers: int, groups: int, ones: list[dict[str, Any]]) -> list[str]:
    cells = [what, str(workers), str(groups)]
    for predicted, measured in (
        ("predicted_s", "measured_s"),
        ("predicted_s", "least_s"),
        ("predicted_core_s", "measured_core_s"),
    ):
        medians = [statistics.median(one[name] for one in ones) for name in (predicted, measured)]
        cells += [_ms(seconds) for seconds in medians[measured == "least_s" :]]
        ratios = [one[measured] / one[predicted] for one in ones]
        spread = f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(ones) > 1 else ""
        cells.append(f"{statistics.median(ratios):.2f}{spread}")
    return cells


def _simulated(found: dict[str, Any]) -> Iterator[str]:
    yield from ("", "## Simulated: steps and lost time", "")
    yield from (
        "Eight workers to a machine, 32 machines to a pod. Flat: all report to the root, and one "
        "ring adds the gradients up over everybody (libraries that lay several rings do better). "
        "Two levels: machines, then all machines. Three: machines, pods, all pods; up to 256 "
        "workers that is the same as two. Workers take times that differ by 3% (lognormal); the "
        "step waits for the slowest. Nothing overlaps, so a step is at most this long. Exchange: "
        "every report reaches the root, as in Headway, by the costs measured here. In pairs: "
        "what the reduction would take as a pairwise tree of whole buffers.",
    )
    for cluster in found["clusters"]:
        rows = [one for one in found["simulated"] if one["cluster"] == cluster["name"]]
        size = cluster["num_bytes"] / 1e9
        yield from ("", f"### {cluster['name']}", "")
        yield f"Gradients of {size:.3g} GB, {cluster['compute_s']:g} s of computing a step."
        yield ""
        head = ["workers", "layout", "step, s", "slowest worker", "exchange", "reduction"]
        head += ["step of flat over it", "reduction of flat over it", "in pairs"]
        flat = {one["workers"]: one for one in rows if one["layout"] == "flat"}
        yield from _table(head, (_step(one, flat[one["workers"]]) for one in rows))
    yield from ("", "## Simulated: lost time", "")
    name = found["clusters"][0]["name"]
    yield (
        f"{name}. Lost to saves at the formula's interval, each a stall of 5 s, to steps that "
        "are taken again, and to restarts of 600 s each (both assumed), at the published rate of "
        "466 interruptions in 54 days on 16,384 GPUs. If kept: the last finished step is saved "
        "before the restart wherever the root's machine is not the one that failed, as Headway's "
        "root does. Computing: share of all time that the median worker computes."
    )
    yield ""
    head = ["workers", "layout", "a failure every", "save every", "lost", "saves", "again"]
    head += ["restarts", "lost if kept", "computing"]
    rows = [one for one in found["simulated"] if one["cluster"] == name]
    yield from _table(head, map(_lost, rows))


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.0f}" if seconds >= 0.1 else f"{seconds * 1e3:.3g}"


def _step(one: dict[str, Any], flat: dict[str, Any]) -> list[str]:
    return [
        f"{one['workers']:,}",
        one["layout"],
        f"{one['step_s']:.2f}",
        f"+{one['slowest_s']:.2f}",
        f"{one['exchange_s']:.3f}",
        f"{one['reduction_s']:.2f}",
        f"{flat['step_s'] / one['step_s']:.2f}",
        f"{flat['reduction_s'] / one['reduction_s']:.1f}",
        f"{one['pairwise_reduction_s']:.1f}",
    ]


def _lost(one: dict[str, Any]) -> list[str]:
    parts = [f"{one['lost'][name]:.2%}" for name in ("saving", "again", "restarting")]
    return [
        f"{one['workers']:,}",
        one["layout"],
        duration(one["between_failures_s"]),
        duration(one["save_interval_s"]),
        f"{one['lost']['total']:.2%}",
        *parts,
        f"{one['lost_if_kept']['total']:.2%}",
        f"{one['computing']:.1%}",
    ]


def _formula(rows: Sequence[dict[str, float]]) -> Iterator[str]:
    yield from ("", "## Simulated: how often to save", "")
    yield from (
        "The time to train between two saves that loses least is about sqrt(2 x stall x time "
        "between failures). Beside it the best of 25 intervals from an eighth to eight times as "
        "long, each 19% longer than the one before and over the same 200,000 failures.",
        "",
    )
    head = ["workers", "stall", "a failure every", "formula", "best simulated"]
    head += ["lost at the formula's", "lost at the best"]
    yield from _table(
        head,
        (
            [
                f"{one['workers']:,}",
                f"{one['stall_s']:g} s",
                duration(one["between_failures_s"]),
                duration(one["formula_s"]),
                duration(one["best_simulated_s"]),
                f"{one['lost_at_formula']:.3%}",
                f"{one['lost_at_best']:.3%}",
            ]
            for one in rows
        ),
    )


def duration(seconds: float) -> str:
    """In the largest unit of which there is more than one."""
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
