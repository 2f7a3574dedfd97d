"""Data from a file on disk to the trainer, part by part, each beside what else one would use."""

import argparse
import bz2
import gzip
import json
import lzma
import os
import random
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from report import Contender, Figures, Measurement, as_json, as_page, machine, versions

HERE = Path(__file__).parent
ROW_CHARACTERS = 1500
CONDITIONS = (
    "Every trial is a process of its own; contenders take turns. The file was written just before, "
    "so that nobody waits for the disk.",
    "MB/s are of the content, unpacked, by the processor time of the reading process, all its "
    "threads together: what one core does. Imports and the first row do not count.",
)


@dataclass(frozen=True)
class Bench:
    """How much of it to do, and where."""

    folder: Path
    trials: int
    megabytes: int

    def rounds(self, trials: dict[str, Callable[[], Figures]]) -> dict[str, tuple[Figures, ...]]:
        """Every contender once per round, by name."""
        seen: dict[str, list[Figures]] = {name: [] for name in trials}
        for number in range(1, self.trials + 1):
            for name, trial in trials.items():
                print(f"  {number}/{self.trials} {name}", file=sys.stderr, flush=True)
                seen[name].append(trial())
        return {name: tuple(figures) for name, figures in seen.items()}


# ---- inputs ----------------------------------------------------------------------------------


def texts(most_bytes: int) -> list[dict[str, object]]:
    """The sources of the installed packages in rows of some 1,500 characters, in a drawn order."""
    rows: list[dict[str, object]] = []
    total = 0
    packages = Path(sysconfig.get_path("purelib"))
    for path in sorted(p for ending in ("py", "rst", "md") for p in packages.rglob(f"*.{ending}")):
        text = path.read_text(errors="replace")
        parts = [text[at : at + ROW_CHARACTERS] for at in range(0, len(text), ROW_CHARACTERS)]
        rows += [{"text": part, "meta": {"file": path.name}} for part in parts if part.strip()]
        total += len(text)
        if total >= most_bytes:
            break
    random.Random(0).shuffle(rows)
    return rows


def chats(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """The same text as conversations of four turns."""
    made: list[dict[str, object]] = []
    for row in rows:
        text = str(row["text"])
        parts = [text[at : at + ROW_CHARACTERS // 4] for at in range(0, ROW_CHARACTERS, 375)]
        roles = ("user", "assistant") * 2
        turns = [{"role": r, "content": part} for r, part in zip(roles, parts, strict=True)]
        made.append({"messages": turns})
    return made


def jsonl(path: Path, rows: list[dict[str, object]]) -> int:
    """Rows as JSONL; the bytes of it."""
    with path.open("w") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path.stat().st_size


# ---- reading ---------------------------------------------------------------------------------


def reading_measured(bench: Bench) -> list[Measurement]:
    """From bytes to checked records."""
    rows = texts(bench.megabytes * 1_000_000)
    text, chat = bench.folder / "text.jsonl", bench.folder / "chats.jsonl"
    sizes = {text: jsonl(text, rows), chat: jsonl(chat, chats(rows))}
    measured = [
        _beside("Rows of text", text, sizes[text], bench),
        _beside("Conversations of four turns", chat, sizes[chat], bench),
        _forms(rows, text, sizes[text], bench),
    ]
    for path in sizes:
        path.unlink()
    return measured


def _trial(reader: str, path: Path, num_bytes: int) -> Callable[[], Figures]:
    def run() -> Figures:
        command = [sys.executable, str(HERE / "reading.py"), reader, str(path)]
        told = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        return {
            "MB/s": num_bytes / 1e6 / told["seconds"],
            "rows/s": told["rows"] / told["seconds"],
            "peak memory, MB": told["peak"] / 1e6,
        }

    return run


def _beside(title: str, path: Path, num_bytes: int, bench: Bench) -> Measurement:
    hows = {
        "a loop": "`json.loads` of every line",
        "datasets": '`load_dataset("json", streaming=True)`',
        "Headway": "`formats.read`: every row checked, with its file and line",
    }
    readers = {"a loop": "loop", "datasets": "datasets", "Headway": "headway"}
    seen = bench.rounds({n: _trial(reader, path, num_bytes) for n, reader in readers.items()})
    return Measurement(
        title=f"Reading: {title.lower()}",
        what=f"{num_bytes / 1e6:.0f} MB of JSONL, rows of up to {ROW_CHARACTERS:,} characters: "
        "sources and documentation of the installed Python packages.",
        notes=("The loop keeps no file and line and checks nothing but that it is JSON.",),
        contenders=tuple(Contender(name, hows[name], seen[name]) for name in hows),
    )


def _forms(rows: list[dict[str, object]], plain: Path, num_bytes: int, bench: Bench) -> Measurement:
    """The same rows in every form."""
    import pyarrow as pa
    import zstandard
    from pyarrow import parquet

    content = plain.read_bytes()
    packs = {".gz": gzip.compress, ".zst": zstandard.compress}
    packs |= {".bz2": bz2.compress, ".xz": lambda raw: lzma.compress(raw, preset=1)}
    forms = {".jsonl": plain}
    for suffix, pack in packs.items():
        forms[f".jsonl{suffix}"] = bench.folder / f"packed.jsonl{suffix}"
        forms[f".jsonl{suffix}"].write_bytes(pack(content))
    forms[".json"] = bench.folder / "array.json"
    forms[".json"].write_bytes(b"[" + content.rstrip().replace(b"\n", b",\n") + b"]")
    forms[".csv"] = bench.folder / "table.csv"
    with forms[".csv"].open("w", newline="") as file:
        import csv

        csv.writer(file).writerows([["text"], *([row["text"]] for row in rows)])
    forms[".parquet"] = bench.folder / "table.parquet"
    parquet.write_table(pa.Table.from_pylist(rows), forms[".parquet"], row_group_size=20_000)
    seen = bench.rounds({f: _trial("headway", path, num_bytes) for f, path in forms.items()})
    for path in forms.values():
        if path != plain:
            path.unlink()
    return Measurement(
        title="Reading: the same rows in every form",
        what=f"{num_bytes / 1e6:.0f} MB as JSONL; MB/s are of that size for all forms.",
        notes=("Compressed forms count the time to unpack them.",),
        contenders=tuple(Contender(form, "`formats.read`", seen[form]) for form in forms),
        compared=False,
    )


# ---- surveying, seeking, feeding -------------------------------------------------------------


def surveying_measured(bench: Bench) -> list[Measurement]:
    """From a file to a store, beside the tokenizer alone; and a sample of the same file."""
    path, num_bytes, tokenizer = _large(bench)
    parts = {
        "tokenizers alone": ("tokenizers", "`encode_batch_fast` of the same texts; no reading"),
        "Headway": ("survey", "`survey`: read, checked, hashed, tokenised, stored, measured"),
        "a sample": ("sample", "what a plan reads of data above `survey_exact`"),
    }
    seen = bench.rounds(
        {n: _part(part, path, tokenizer, bench, num_bytes) for n, (part, _) in parts.items()}
    )
    path.unlink()
    made = {name: Contender(name, how, seen[name]) for name, (_, how) in parts.items()}
    what = (
        f"{num_bytes / 1e6:,.0f} MB of JSONL, the sources of installed packages over and over; "
        "a tokenizer of 4,096 tokens trained on some of it; all cores. MB/s by the clock."
    )
    both = (made["tokenizers alone"], made["Headway"])
    return [
        Measurement("Surveying all of it", what, (), both),
        Measurement("Planning from a sample of it", what, (), (made["a sample"],), compared=False),
    ]


def feeding_measured(bench: Bench) -> list[Measurement]:
    """What a trainer's rows cost it."""
    path, _, tokenizer = _large(Bench(bench.folder, bench.trials, min(bench.megabytes, 60)))
    hows = {
        "feed": "20,000 tokens out of a store, seconds of the trainer's process",
        "flow": "20,000 tokens out of a flow's windows, seconds of the trainer's process",
        "seek": "the rows of step one million of ten million rows, ten a step",
    }
    seen = bench.rounds({part: _part(part, path, tokenizer, bench, 0) for part in hows})
    path.unlink()
    what = "A step of 20,000 tokens in rows of 512; seconds for one, ids to tensors."
    contenders = tuple(Contender(part, hows[part], seen[part]) for part in hows)
    return [Measurement("Feeding and seeking", what, (), contenders, compared=False)]


def _large(bench: Bench) -> tuple[Path, int, Path]:
    """A file of the wanted size, its bytes, and a tokenizer's folder."""
    from headway.data.examples.tokenizer import train

    rows = texts(min(bench.megabytes, 100) * 1_000_000)
    path, tokenizer = bench.folder / "large.jsonl", bench.folder / "tokenizer"
    num_bytes = jsonl(path, rows)
    content = path.read_bytes()
    with path.open("ab") as file:
        while num_bytes < bench.megabytes * 1_000_000:
            num_bytes += file.write(content)
    tokenizer.mkdir(exist_ok=True)
    train((str(row["text"]) for row in rows[:3000]), 4096).save(tokenizer)
    return path, num_bytes, tokenizer


def _part(
    part: str, path: Path, tokenizer: Path, bench: Bench, num_bytes: int
) -> Callable[[], Figures]:
    def run() -> Figures:
        with tempfile.TemporaryDirectory(dir=bench.folder) as cache:
            command = [sys.executable, str(HERE / "surveying.py"), part]
            command += [str(path), str(tokenizer), cache]
            told = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        figures = {"seconds": told["seconds"], "peak memory, MB": told["peak"] / 1e6}
        return {"MB/s": num_bytes / 1e6 / told["seconds"], **figures} if num_bytes else figures

    return run


SECTIONS: dict[str, Callable[[Bench], list[Measurement]]] = {
    "reading": reading_measured,
    "surveying": surveying_measured,
    "feeding": feeding_measured,
}


def main() -> None:
    """Measure everything; write it down unless it was only a try."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=3, help="of each contender [3]")
    parser.add_argument("--megabytes", type=int, default=200, help="of text [200]")
    parser.add_argument("--only", choices=[*SECTIONS], help="one part alone")
    parser.add_argument("--quick", action="store_true", help="5 MB, once; prints, writes nothing")
    asked = parser.parse_args()
    began_s, load = time.monotonic(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), asked.trials, asked.megabytes)
        bench = Bench(Path(folder), 1, 5) if asked.quick else bench
        wanted = [asked.only] if asked.only else [*SECTIONS]
        measured = [one for name in wanted for one in SECTIONS[name](bench)]
    head = {
        "date": date.today().isoformat(),
        "machine": machine(),
        "versions": versions(),
        "conditions": [
            *CONDITIONS,
            f"{bench.trials} trials each, {time.monotonic() - began_s:.0f} s in all; "
            f"the machine's load before it was {load:.1f}.",
        ],
    }
    page = as_page(measured, head)
    print(page)
    if not asked.quick:
        path = HERE / "results" / "-".join(filter(None, (head["date"], "data", asked.only)))
        path.parent.mkdir(exist_ok=True)
        path.with_suffix(".json").write_text(json.dumps(as_json(measured, head), indent=2) + "\n")
        path.with_suffix(".md").write_text(page)


if __name__ == "__main__":
    main()
