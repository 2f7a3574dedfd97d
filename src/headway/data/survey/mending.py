"""What to type about a row or a file that cannot be trained on."""

import difflib
import shlex
from pathlib import Path

from headway.base.errors import Remedy
from headway.data.formats.compressed import suffix_of
from headway.data.formats.detect import WHOLE_FILE
from headway.data.formats.records import KEYS, Rejected
from headway.data.sources.source import STANDARD_INPUT

_UNPACK = {".gz": "zcat", ".zst": "zstdcat", ".bz2": "bzcat", ".xz": "xzcat"}
# Which tokens are the answers is not to be found.
_WHICH_ANSWERS = ("no trained token", "no untrained token", "the template changes earlier turns")
# What others call the fields that a row is read from.
_ALSO_CALLED = {
    "content": "text",
    "body": "text",
    "document": "text",
    "sentence": "text",
    "question": "prompt",
    "query": "prompt",
    "answer": "completion",
    "response": "completion",
    "chat": "messages",
    "dialog": "messages",
    "dialogue": "messages",
    "conversation": "messages",
    "tokens": "input_ids",
}


def mend(rejected: Rejected) -> Remedy:
    """What to type about it, or how to look at it."""
    reason, file = rejected.reason, rejected.file
    if file == STANDARD_INPUT:
        return Remedy("COMMAND | tee data.txt | headway train -", "keeps what arrives, to look at")
    if reason == "not UTF-8":
        wide = rejected.detail in ("byte 0xff at offset 0", "byte 0xfe at offset 0")
        code = "utf-16" if wide else "latin1"
        return Remedy(_into(file, f"iconv -f {code} -t utf-8", ".utf8"), "and train that file")
    if reason == "no text or messages":
        return _rename(file, rejected.detail.removeprefix("keys: ").split(", "))
    if reason == "preference data":
        return Remedy("a file of the chosen answers alone, as messages", "can be trained on")
    if reason in _WHICH_ANSWERS:
        return Remedy("--no-assistant-only-loss", "trains on every token of the conversations")
    if file.startswith("hf://"):
        return Remedy(f"look at row {rejected.line}", "on the data set's page of the hub")
    if reason in WHOLE_FILE:
        return Remedy(f"ls -l {shlex.quote(file)}", "what is there")
    if _inner(file) == ".parquet":
        row = f".slice({rejected.line - 1}, 1).to_pylist()"
        return Remedy(_python(f"print(p.read_table({file!r}){row})"), "the first of these rows")
    return Remedy(_through(file, f"sed -n {rejected.line}p"), "the first of these rows")


def _rename(file: str, keys: list[str]) -> Remedy:
    """The fields under the names they are read by, as far as their own names tell."""
    names = {key: _ALSO_CALLED[key] for key in keys if key in _ALSO_CALLED}
    if not names:
        near = {key: difflib.get_close_matches(key, sorted(KEYS), n=1) for key in keys}
        names = {key: found[0] for key, found in near.items() if found} or {keys[0]: "text"}
    gives = f"if that is the {' and the '.join(dict.fromkeys(names.values()))}"
    if file.startswith("hf://"):
        return Remedy(f"a copy with {', '.join(f'{a} as {b}' for a, b in names.items())}", gives)
    if _inner(file) == ".parquet":
        table = f"t = p.read_table({file!r})"
        renamed = f"t.rename_columns([{names!r}.get(n, n) for n in t.column_names])"
        write = f"p.write_table({renamed}, {file + '.parquet'!r})"
        return Remedy(_python(f"{table}; {write}"), gives)
    if _inner(file) in (".csv", ".tsv"):
        rules = [f"-e '1s/{key}/{name}/'" for key, name in names.items()]
    else:
        rules = [f"""-e 's/"{key}":/"{name}":/'""" for key, name in names.items()]
    tool = " ".join(["sed", *rules])
    return Remedy(_into(file, tool, _inner(file) or ".jsonl"), gives)


def _inner(file: str) -> str:
    """What a file is, by its name, when it is unpacked."""
    return Path(file.removesuffix(suffix_of(file))).suffix.lower()


def _python(code: str) -> str:
    return f"python -c {shlex.quote(f'import pyarrow.parquet as p; {code}')}"


def _into(file: str, tool: str, suffix: str) -> str:
    """A line that writes a mended copy beside a file; of what is elsewhere, here."""
    here = Path(file).name if "://" in file else file
    return f"{_through(file, tool)} > {shlex.quote(here + suffix)}"


def _through(file: str, tool: str) -> str:
    """A line that shows the unpacked content of a file as a tool lets it through."""
    quoted, packed = shlex.quote(file), suffix_of(file)
    unpack = [_UNPACK[packed]] if packed else []
    if "://" in file:
        fetch = f"aws s3 cp {quoted} -" if file.startswith("s3:") else f"curl -sL {quoted}"
        return " | ".join([fetch, *unpack, tool])
    return f"{_UNPACK[packed]} {quoted} | {tool}" if packed else f"{tool} {quoted}"
