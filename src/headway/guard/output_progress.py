"""Progress in the output of training programs: steps, losses, learning rates, epochs.

A line is read by shapes that many programs share, not by program: a bar of tqdm (transformers,
Lightning, TRL, datasets), a dictionary or names with numbers (`'loss': 2.4`, `loss=2.4`,
`train loss 2.4`), and counts out of a total (`step 12/100`, `[ 10/100]`, `Epoch 1/3`).
"""

import re
from dataclasses import replace

from headway.guard.facts import ProgressRecord

LONGEST = 1500  # characters of a line that are looked at
_N = r"[+-]?(?:\d[\d,_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_VALUE = rf"(?:{_N}|[+-]?(?:nan|inf(?:inity)?)\b)"
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")

# "Map:  45%|████▌     | 450/1000 [00:12<00:15,  3.60it/s, loss=2.4]", "12it [00:03,  3.9it/s]"
_COUNT = r"(?P<done>\d+(?:\.\d+)?[kKMGT]?)"
_BAR_BEGIN = re.compile(r"(?<!\d)\d{1,3}$")
_BAR_END = re.compile(
    rf"[^|]{{0,400}}\|\s*{_COUNT}i?B?/(?P<total>\d+(?:\.\d+)?[kKMGT]?)i?B?\s*"
    r"\[(?P<rest>[^\]]*)\]?(?P<after>.*)"
)
_OPEN_BAR = re.compile(
    rf"\s*(?:(?P<what>[^:]{{1,100}}):\s+)?{_COUNT}\s?(?P<unit>[A-Za-z ]{{1,20}}?)\s*"
    r"\[(?P<rest>\d+:\d\d[^\]]*/(?:s|[A-Za-z]+)[^\]]*)\]"
)
# Lightning with rich: "Epoch 0/9  ━━━━━━ 45/100 0:00:12 • 0:00:15 3.60it/s"
_RICH_BAR = re.compile(
    r"(?P<what>[^━╸╺]{0,100})[━╸╺][━╸╺\s]*\s(?P<done>\d+)/(?P<total>\d+)\s+\d+:\d\d:\d\d"
)
_RATE = re.compile(r"[\d.?]+\s*[kMGT]?(?P<unit>[A-Za-z ]+)/s|[\d.?]+\s*s/(?P<slow>[A-Za-z]+)")
_BESIDE_A_NAME = re.compile(r"[\s|]*\bloss:?\s*[\d.]+|^[\d|:/\s]+(?=\||$)", re.IGNORECASE)
_SCALE = {"k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}

# All below read text in lower case.
_LINK = r"[\"']?\s*(?:[:=]\s*|\s)[\"'\[(]?\s*"
_LOSS = re.compile(
    r"(?:loss|nll)(?P<kind>[/_. ](?:train/total|train|total|avg|step|epoch|val)\b)?"
    rf"{_LINK}(?P<value>{_VALUE})"
)
_BEFORE_LOSS = re.compile(r"[a-z]*[/_. ]?[a-z]*[/_. ]?$")  # "eval_", "train ", "val/lm "
_RATE_NAME = re.compile(rf"\b(?:learning[ _]rate|lr)(?:[-_/][\w/-]+)?{_LINK}(?P<value>{_VALUE})")
_NORM = re.compile(rf"g(?:rad(?:ient)?[ _]?)?norm{_LINK}(?P<value>{_VALUE})")
_STEP = re.compile(
    r"(?<![a-z0-9])(?:(?:global|train|training|optimizer|optim|max)[_ ]?)?"
    r"(?:steps?|iter(?:ation)?s?|batch|update)(?:_num)?[\"']?\s*[:=#\[]?\s*[\"'\[(]?\s*"
    r"(?P<done>\d[\d,]*)(?:\s*(?:/|of)\s*(?P<total>\d[\d,]*))?(?![\d.]*\s*(?:s\b|ms\b|it/s|%))"
)
_EPOCH = re.compile(
    r"(?<![a-z0-9])epochs?[\"']?\s*[:=#]?\s*[\"'\[(]?\s*(?P<done>\d+(?:\.\d+)?)"
    r"(?:\s*(?:/|of)\s*(?P<total>\d+))?"
)
_QUOTED_EPOCH = re.compile(rf"[\"']epoch[\"']\s*:\s*[\"']?(?P<value>{_N})")
# "[ 10/100]", "[640/60000 (1%)]", "45/100 [=====>...] - ETA: 12s"
_FRACTION = re.compile(r"\[\s*(?P<done>\d+)\s*/\s*(?P<total>\d+)(?:\s*\(\s*\d+(?:\.\d+)?%\s*\))?")
_KERAS = re.compile(r"^\s*(?P<done>\d+)/(?P<total>\d+)\s*(?:\[[=>.]+\]|[━─]+)")
_RUN_SECONDS = re.compile(rf"train_runtime[\"']?\s*[:=]\s*[\"']?(?P<value>{_N})")
_EVALUATION = re.compile(
    r"(?<![a-z])(?:eval(?:uation|uating)?|valid(?:ation|ating)?|val|test(?:ing)?|dev|"
    r"sanity checking|predict(?:ing)?)(?![a-z])"
)
_TRAIN_LOSS = re.compile(r"(?<![a-z])(?:train(?:ing)?|lm)[/_. ]?loss|loss[/_. ]train")
_HINT = re.compile(
    r"loss|nll|epoch|step|iter|batch|update|learning.rate|\blr\b|norm|%\||\[\s*\d+\s*/|"
    r"it/s|/it\]|━|^\s*\d+/\d+|train_runtime|\[\d+:\d\d"
)
# Settings printed before training are not progress.
_TOLD_BEFORE = re.compile(
    r"^\W*(?:\[[^\]]*\]\s*)*(?:num|number of|total|max|instantaneous|gradient)\b[\w ().&]*[:=]"
)
_SETTINGS = re.compile(
    r"(?:max|total|num|warmup|logging|eval|save|gradient.accumulation|optimization)[_ -]?"
    r"(?:\w+[_ -])?(?:steps?|iters?|epochs?|batch)|batch[_ -]size|steps?[_ -]per"
)


def read_progress(line: str, at_s: float) -> ProgressRecord | None:
    """What a line says about progress; None if nothing. Takes some 20 microseconds.

    Args:
        line: without its end; colors in it are ignored.
        at_s: when it was printed, for the record.
    """
    text = " ".join(plain(line[:LONGEST]).split())
    low = text.lower()
    if not _HINT.search(low):
        return None
    if "loss" not in low and _TOLD_BEFORE.search(low):
        return None
    try:
        found = _bar(text, at_s) or _plain_line(low, at_s)
    except (ValueError, OverflowError):  # a number that is none: 9 a thousand times
        return None
    return found if found != ProgressRecord(at_s) else None


def plain(text: str) -> str:
    """A line without what colors it and moves the cursor."""
    return _ESCAPE.sub("", text) if "\x1b" in text else text


# -- bars ------------------------------------------------------------------------------------


def _bar(text: str, at_s: float) -> ProgressRecord | None:
    """A progress bar, with what it says next to its count."""
    match, what = None, ""
    if (at := text.find("%|")) > 0 and (begin := _BAR_BEGIN.search(text, max(at - 4, 0), at)):
        match, what = _BAR_END.match(text, at + 2), text[: begin.start()]
    elif "━" in text:
        match = _RICH_BAR.match(text)
    total = _whole(match["total"]) if match else None
    if match is None and "[" in text and "/" in text and ":" in text:
        match = _OPEN_BAR.match(text)
    if match is None:
        return None
    groups = match.groupdict()
    what = (what or groups.get("what") or "").strip(" |:\r\t")
    beside = f"{groups.get('rest') or text[match.end() :]} {groups.get('after') or ''}"
    low = what.lower()
    values = _values(f"{low} | {beside.lower()}", at_s)
    epoch = _EPOCH.search(low)
    return replace(
        values,
        step=_whole(match["done"]),
        total=total,
        epoch=float(epoch["done"]) if epoch else values.epoch,
        is_evaluation=bool(_EVALUATION.search(low)),
        is_bar=True,
        what=_BESIDE_A_NAME.sub("", what).strip(" |:"),
        unit=groups.get("unit") or _unit(beside),
    )


def _unit(text: str) -> str:
    rate = _RATE.search(text)
    return ((rate["unit"] or rate["slow"] or "") if rate else "").strip()


def _whole(text: str) -> int:
    scale = _SCALE.get(text[-1:], 1.0)
    return round(float(text.rstrip("kKMGT")) * scale)


# -- names and numbers, in lower case --------------------------------------------------------


def _plain_line(low: str, at_s: float) -> ProgressRecord:
    """A line of a log: names with numbers, and counts out of a total."""
    values = _values(low, at_s)
    if values.run_seconds is not None:
        return values
    told = _SETTINGS.sub("", low)
    step, total = _steps(told)
    if step is None and (match := _FRACTION.search(low) or _KERAS.search(low)):
        step, total = int(match["done"]), int(match["total"])
    epoch = values.epoch
    if epoch is None and (match := _EPOCH.search(told)):
        epoch = float(match["done"])
    return replace(values, step=step, total=total, epoch=epoch)


def _steps(told: str) -> tuple[int | None, int | None]:
    """The step that a line names and its total; the last name wins: "iter 40 step 5"."""
    found = list(_STEP.finditer(told))
    if not found:
        return None, None
    best = next((m for m in found if m["total"]), found[-1])
    done, total = best["done"].replace(",", ""), best["total"]
    return int(done), int(total.replace(",", "")) if total else None


def _values(low: str, at_s: float) -> ProgressRecord:
    """Loss, learning rate, gradient norm and epoch by their names."""
    loss, is_evaluation = _loss(low) if "loss" in low or "nll" in low else (None, False)
    epoch = _QUOTED_EPOCH.search(low) if "epoch" in low else None
    spent = _RUN_SECONDS.search(low) if "runtime" in low else None
    return ProgressRecord(
        at_s,
        epoch=_number(epoch["value"]) if epoch else None,
        loss=loss,
        learning_rate=_first(_RATE_NAME, low) if "lr" in low or "rate" in low else None,
        grad_norm=_first(_NORM, low) if "norm" in low else None,
        is_evaluation=is_evaluation,
        run_seconds=_number(spent["value"]) if spent else None,
    )


def _loss(low: str) -> tuple[float | None, bool]:
    """The loss of a line, that of training if there are several, and whether it is an evaluation's.

    "step 250: train loss 2.1, val loss 2.3" is about training; "{'eval_loss': 2.3}" is not.
    """
    best, best_rank = None, 3
    for match in _LOSS.finditer(low):
        before = _BEFORE_LOSS.search(low, max(match.start() - 24, 0), match.start())
        name = (before[0] if before else "") + match[0]
        rank = 0 if _TRAIN_LOSS.search(name) else 2 if _EVALUATION.search(name) else 1
        if rank < best_rank:
            best, best_rank = match, rank
    if best is None:
        return None, False
    is_evaluation = best_rank == 2 or (best_rank == 1 and bool(_EVALUATION.match(low)))
    return _number(best["value"]), is_evaluation


def _first(pattern: re.Pattern[str], low: str) -> float | None:
    match = pattern.search(low)
    return _number(match["value"]) if match else None


def _number(text: str) -> float:
    return float(text.replace(",", "").replace("_", ""))
