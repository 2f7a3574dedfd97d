"""Numbers with units: format and parse counts, bytes, durations."""

import re

_SIZE = (
    {"": 1, "b": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
    | {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
    | {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
)
_ROUNDS_UP = 0.99995  # above this, one decimal would print 1000.0 of the smaller unit
_SECONDS = {"": 1, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


def count(number: float) -> str:
    """1598 -> '1,598'."""
    return f"{round(number):,}"


def short_count(number: float) -> str:
    """A short count: 1598 -> '1,598', 3049920 -> '3.0 M'."""
    for limit, unit in ((10**12, "T"), (10**9, "G"), (10**6, "M")):
        if number >= _ROUNDS_UP * limit:
            return f"{number / limit:.1f} {unit}"
    return count(number)


def plural(number: int, noun: str, plural_noun: str = "") -> str:
    """1, 'row' -> '1 row'; 2, 'row' -> '2 rows'; 2, 'batch', 'batches' -> '2 batches'."""
    return f"{count(number)} {noun if number == 1 else plural_noun or noun + 's'}"


def size(num_bytes: float) -> str:
    """3_200_000 -> '3.2 MB'. Powers of ten, like `ls -h --si`."""
    for limit, unit in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if num_bytes >= _ROUNDS_UP * limit:
            return f"{num_bytes / limit:.1f} {unit}"
    return f"{round(num_bytes)} B"


def seconds(duration_s: float) -> str:
    """A duration: 0.4 -> '0.4 s', 75 -> '1 min 15 s', 7500 -> '2 h 5 min'."""
    if duration_s < 9.95:
        return f"{max(duration_s, 0):.1f} s"
    whole = round(duration_s)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 10:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(round(whole / 60), 60)
    if not hours:
        return f"{minutes} min"
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours / 24:.1f} days"


def short_time(duration_s: float) -> str:
    """A duration that may be far below a second: 0.034 -> '34 ms', 2.5 -> '2.5 s'."""
    if duration_s >= 0.9995:
        return seconds(duration_s)
    return f"{1000 * duration_s:.{duration_s < 0.00995:d}f} ms"


def share(part: float, whole: float = 1.0) -> str:
    """A share as a percentage: 0.97 -> '97%', 0.004 -> '0.4%'; a share of zero is '0%'."""
    percent = 100 * part / whole if whole else 0.0
    return f"{percent:.0f}%" if percent == 0 or percent >= 9.95 else f"{percent:.1f}%"


def learning_rate(rate: float) -> str:
    """0.0002 -> '2e-4'."""
    mantissa, exponent = f"{rate:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def read_size(text: str) -> int:
    """Bytes from '64MB', '1.5 GiB', '4096'.

    Raises:
        ValueError: the text is not a size.
    """
    return round(_read(text, _SIZE, "a size like 64MB"))


def read_seconds(text: str) -> float:
    """Seconds from '90', '10m', '1h30m', '2 min'.

    Raises:
        ValueError: the text is not a duration.
    """
    example = "a duration like 90, 10m or 1h30m"
    if not re.search(r"[a-zA-Z]", text):
        return _read(text, _SECONDS, example)
    # A number without a unit next to others is ambiguous: 1h30 may mean minutes.
    if not re.fullmatch(r"(\s*[\d.]+\s*[a-zA-Z]+)+\s*", text):
        raise ValueError(f"{text!r} is not {example}")
    parts = re.findall(r"[\d.]+\s*[a-zA-Z]+", text)
    return sum(_read(part, _SECONDS, example) for part in parts)


def _read(text: str, units: dict[str, int], example: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]*)", text.strip())
    if not found or found[2].lower() not in units:
        raise ValueError(f"{text!r} is not {example}")
    return float(found[1]) * units[found[2].lower()]
