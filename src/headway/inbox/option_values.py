"""Values of the options of an inbox: how each is read, with an example of it."""

import re
from collections.abc import Callable
from typing import cast

from headway.base.network.webhook import is_webhook
from headway.base.units import read_size
from headway.inbox.jobs.pruning import FEWEST_MODELS
from headway.inbox.neighbor.hours import read_hours
from headway.inbox.recall.gate import read_gate


def _one_of(*choices: str) -> Callable[[object], str]:
    def read_choice(value: object) -> str:
        if not isinstance(value, str) or value not in choices:
            raise ValueError(f"{', '.join(choices[:-1])} or {choices[-1]}")
        return value

    return read_choice


def _read_patterns(value: object) -> tuple[str, ...]:
    values = cast("list[str]", value) if isinstance(value, list) else [value]
    texts = tuple(part.strip() for text in values for part in str(text or "").split(","))
    if not all(texts):
        raise ValueError("file name patterns, such as urgent-*")
    return texts


def _read_number_of_models(value: object) -> int | None:
    text = str(value or "").strip()
    if text == "all":
        return None
    if not re.fullmatch(r"\d{1,9}", text) or int(text) < FEWEST_MODELS:
        raise ValueError("2 or more, since undo needs the previous one; or all")
    return int(text)


def _read_webhook(value: object) -> str:
    url = str(value or "")
    if url and not is_webhook(url):
        raise ValueError("an https:// address, as Slack, Discord or ntfy provide it")
    return url


def _read_bytes(value: object) -> int:
    text = str(value or "").strip()
    try:
        return read_size(text)
    except ValueError:
        raise ValueError("a size such as 500MB or 20GB") from None


def _read_budget(value: object) -> int | None:
    return None if str(value or "").strip() == "none" else _read_bytes(value)


def _read_nice(value: object) -> int:
    text = str(value if value is not None else "").strip()
    if not re.fullmatch(r"1?\d", text):
        raise ValueError("0 (normal priority) to 19 (lowest)")
    return int(text)


def _read_minutes(value: object) -> float:
    text = str(value or "").strip()
    if not re.fullmatch(r"\d{1,6}(\.\d{1,6})?", text):
        raise ValueError("minutes, 0 or more")
    return float(text)


# How each option is read, and an example.
READERS: dict[str, tuple[Callable[[object], object], str]] = {
    "on_duplicate": (_one_of("skip", "train", "fail"), "skip"),
    "priority": (_read_patterns, "urgent-*"),
    "train_between": (lambda value: read_hours(str(value or "")), "22:00-07:00"),
    "keep_models": (_read_number_of_models, "5"),
    "before_file": (_one_of("nothing", "backup"), "backup"),
    "after_file": (lambda value: str(value or ""), "notify-send learned"),
    "promote_if": (read_gate, "improved and nothing_forgotten"),
    "notify": (_read_webhook, "https://ntfy.sh/a-topic-that-nobody-guesses"),
    "disk_budget": (_read_budget, "20GB"),
    "nice": (_read_nice, "10"),
    "gpu_memory": (_read_bytes, "20GB"),
    "give_way": (lambda value: _one_of("true", "false")(str(value).lower()) == "true", "true"),
    "idle_minutes": (_read_minutes, "10"),
}
