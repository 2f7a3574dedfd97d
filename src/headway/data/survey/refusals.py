"""Data errors that stop a run, each with a command that fixes it."""

import difflib
import math
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from headway.base.errors import Cause, DataRefused, Remedy
from headway.base.units import count, plural, share
from headway.data.examples import tokenizer as tokenizers
from headway.data.formats.compressed import converting, piped, suffix_of
from headway.data.formats.records import DataKind, Record, Rejected, RejectReason, Skipped
from headway.data.formats.row_formats import KEYS
from headway.data.sources.descriptors import descriptor_of
from headway.data.sources.source import STANDARD_INPUT, Source
from headway.data.survey.store import Store

_KINDS: dict[DataKind, str] = {
    "text": "text",
    "conversations": "conversation",
    "tokens": "tokenized record",
}
_NEED = (
    "text, or rows with text, messages, conversations, prompt and completion or another question "
    "and its answer, or input_ids"
)
_NEEDS = {
    RejectReason.EMPTY_ANSWER: "answers that are not empty",
    RejectReason.PREFERENCE_DATA: "a single answer per prompt, or --preferred-only",
    RejectReason.FIELDS_AMBIGUOUS: "one question and one answer per row",
    RejectReason.FLAG_UNCLEAR: "true or false: a turn is trained or not",
    RejectReason.FLAG_UNKNOWN: "train: true or false on a turn, labels or loss_mask on tokens",
    RejectReason.FLAGS_CONTRADICT: "flags that agree",
    RejectReason.SYSTEMS_DIFFER: "one system prompt",
    RejectReason.TOOLS_DIFFER: "one list of tools",
    RejectReason.ARGUMENTS_NOT_JSON: "arguments that are JSON",
    RejectReason.MASK_DOES_NOT_MATCH: "a 0 or 1 for each of the input_ids",
    RejectReason.MASKED_IN_THE_MIDDLE: "padding at the beginning or the end only; labels of -100 "
    "or a loss_mask leave tokens in the middle untrained",
    RejectReason.SEVERAL_SEQUENCES: "one sequence per row; Headway packs rows itself",
    RejectReason.POSITIONS: "positions 0, 1, 2, ..., or no position_ids",
}
# Reasons that a whole file is unusable; each reads well after "is".
_WHOLE_FILE = (
    RejectReason.EMPTY,
    RejectReason.BLANK,
    RejectReason.BINARY,
    RejectReason.NOT_UTF8,
)
# The answers cannot be located in the conversation.
_ANSWERS_UNKNOWN = (
    RejectReason.NO_TRAINED_TOKEN,
    RejectReason.NO_UNTRAINED_TOKEN,
    RejectReason.TEMPLATE_CHANGES_EARLIER_TURNS,
)
_ANSWERS_LOST = (
    RejectReason.CALLS_NOT_WRITTEN,
    RejectReason.REASONING_NOT_WRITTEN,
    RejectReason.ANSWER_NOT_WRITTEN,
)
_ANSWERS_NOT_WRITTEN = (
    *_ANSWERS_LOST,
    RejectReason.NO_TRAINED_TOKEN,
    RejectReason.NO_UNTRAINED_TOKEN,
    RejectReason.TEMPLATE_FAILS,
)
_TABLES = (".parquet", ".arrow", ".feather")
# Common names for the fields that a row is read from.
_SYNONYMS = {
    "content": "text",
    "body": "text",
    "document": "text",
    "sentence": "text",
    "chat": "messages",
    "dialog": "messages",
    "dialogue": "messages",
    "tokens": "input_ids",
}


def no_usable_records(
    sources: Sequence[Source], rejected: Sequence[Rejected], skipped: Sequence[Skipped]
) -> DataRefused:
    """The refusal of sources without anything to train on."""
    names = sources[0].name if len(sources) == 1 else plural(len(sources), "file")
    if not rejected:
        first = skipped[0]
        reasons = Counter(one.reason for one in skipped)
        return DataRefused(
            f"nothing to train on in {names}",
            cause=Cause.NO_USABLE_RECORDS,
            have=", ".join(f"{count(n)} {reason}" for reason, n in reasons.most_common())
            + f", first {first.file}",
            need=_NEED,
            remedies=(remedy_for(Rejected(first.file, 1, first.reason)),),
        )
    first = rejected[0]
    if len(rejected) == 1 and first.reason in _WHOLE_FILE:
        return DataRefused(
            f"{first.file} is {first.reason}",
            cause=Cause.NO_USABLE_RECORDS,
            have=first.detail,
            need=_NEED,
            remedies=(remedy_for(first),),
        )
    common = _by_reason(rejected)[0][1]
    what = f"{common.file}:{common.line}: {common.reason}"
    if common.reason is RejectReason.PREFERENCE_DATA:
        what = f"{common.file} is preference data, and Headway does not compare answers"
    elif len(rejected) > 1:
        what += f"; none of {count(len(rejected))} rows can be trained on"
    return DataRefused(
        what,
        cause=Cause.NO_USABLE_RECORDS,
        have=_table(rejected),
        need=_need(common),
        remedies=(remedy_for(common),),
    )


def too_few_rows(sources: Sequence[Source], num_rows: int, num_held_out: int) -> DataRefused:
    """Holding rows out of a stream leaves none to train on."""
    names = sources[0].name if len(sources) == 1 else plural(len(sources), "file")
    return DataRefused(
        f"{names} has too few rows to hold {count(num_held_out)} out",
        cause=Cause.TOO_LITTLE_DATA,
        have=plural(num_rows, "row"),
        need=f"{count(num_held_out)} held out, and at least one to train on",
        remedies=(
            Remedy(f"--val-size {max(1, num_rows // 10)}", "holds fewer out"),
            Remedy("leave out --val-size", "trains on all rows"),
        ),
    )


def mixed_kinds(kinds: Mapping[DataKind, int], first: Mapping[DataKind, Record]) -> DataRefused:
    """The refusal of records of several kinds in one run.

    Args:
        kinds: the number of records of each kind.
        first: the first record of each kind.
    """
    together: list[DataKind] = [kind for kind in _KINDS if kind in first]
    files: dict[DataKind, str] = {kind: shlex.quote(first[kind].file) for kind in together}
    if len(set(files.values())) == 1:
        (file,) = set(files.values())
        command = f"grep '\"messages\"' {file} > conversations.jsonl"
        remedies = (Remedy(command, "keeps only the conversations"),)
    else:
        remedies = tuple(
            Remedy(f"headway train {file}", f"trains the {_KINDS[kind]}s")
            for kind, file in files.items()
        )
    return DataRefused(
        f"{' and '.join(f'{_KINDS[kind]}s' for kind in together)} together in one run",
        cause=Cause.MIXED_KINDS,
        have="\n".join(
            f"{plural(kinds[kind], _KINDS[kind])}, first {first[kind].file}:{first[kind].line}"
            for kind in together
        ),
        need="records of a single kind: each kind is counted differently",
        remedies=remedies,
    )


def too_many_rejected(
    rejected: Sequence[Rejected], num: int, read: int, max_rejected: float
) -> DataRefused:
    """The refusal of more unusable rows than the settings allow.

    Args:
        rejected: the rejected rows, or some of them.
        num: the number of rejected rows.
        read: the number of rows read, usable or not.
        max_rejected: the allowed share.
    """
    enough = math.ceil(1000 * num / read) / 1000
    common = _by_reason(rejected)[0][1]
    return DataRefused(
        f"{count(num)} of {plural(read, 'row')} cannot be trained on",
        cause=Cause.TOO_MANY_REJECTED,
        have=f"{share(num, read)} rejected\n{_table(rejected)}",
        need=f"at most {share(max_rejected)} (max_rejected)",
        remedies=(
            remedy_for(common),
            Remedy(f"--max-rejected {enough:g}", "trains on the others"),
        ),
    )


def token_outside_embedding(store: Store, rows: int) -> DataRefused:
    """The refusal of a token that the model has no embedding for.

    Args:
        store: the tokenized data.
        rows: rows of the model's embedding.
    """
    at = int(np.argmax(store.ids >= rows))
    token = int(store.ids[at])
    example = int(np.searchsorted(store.starts, at, side="right")) - 1
    spelling = tokenizers.load(store.folder).token_of(token)
    survey = store.survey
    grow = (
        "from transformers import AutoModelForCausalLM as M; m = M.from_pretrained('MODEL'); "
        f"m.resize_token_embeddings({survey.vocab_size}); m.save_pretrained('MODEL')"
    )
    return DataRefused(
        f"{store.place(example)}: the model has no embedding for token {token}",
        cause=Cause.TOKEN_OUTSIDE_EMBEDDING,
        have=f"token {token} ({spelling!r}) of a tokenizer with {count(survey.vocab_size)} tokens "
        f"({survey.tokenizer_from}); the model has {plural(rows, 'embedding row')}",
        need=f"ids below {count(rows)}: the tokenizer that belongs to the model",
        remedies=(Remedy(f'python -c "{grow}"', "adds untrained rows for them to MODEL"),),
    )


def _by_reason(rejected: Sequence[Rejected]) -> list[tuple[int, Rejected]]:
    """How often each reason occurs, and its first row; the most frequent reason first."""
    counts = Counter(one.reason for one in rejected)
    first: dict[RejectReason, Rejected] = {}
    for one in rejected:
        first.setdefault(one.reason, one)
    return [(number, first[reason]) for reason, number in counts.most_common()]


def _table(rejected: Sequence[Rejected]) -> str:
    lines: list[str] = []
    for number, one in _by_reason(rejected):
        detail = f": {one.detail}" if one.detail else ""
        lines.append(f"{count(number)} {one.reason}, first {one.file}:{one.line}{detail}")
    return "\n".join(lines)


def _need(rejected: Rejected) -> str:
    if rejected.reason in _ANSWERS_NOT_WRITTEN:
        return "answers that the chat template writes"
    return _NEEDS.get(rejected.reason, _NEED)


# ---- remedies --------------------------------------------------------------------------------


def remedy_for(rejected: Rejected) -> Remedy:
    """The command that fixes a rejected row or file, or shows it."""
    reason, file = rejected.reason, rejected.file
    if file == STANDARD_INPUT or descriptor_of(file) is not None:
        command = "COMMAND | tee data.txt | headway train -"
        return Remedy(command, "keeps a copy of the input to look at")
    if reason is RejectReason.NOT_UTF8:
        command = converting(file, "iconv -f latin1 -t utf-8", ".utf8")
        return Remedy(command, "then train that file")
    if reason is RejectReason.NO_KNOWN_FIELDS and rejected.keys:
        return _rename_fields(file, rejected.keys)
    if reason is RejectReason.PREFERENCE_DATA:
        return Remedy("--preferred-only", "trains the preferred answers, and counts the others")
    if reason is RejectReason.EMPTY_ANSWER:
        return Remedy("--keep-empty-answers", "trains them too: the model learns to say nothing")
    if reason in _ANSWERS_LOST:
        return Remedy("--model DIR", "a model whose chat template writes them")
    if reason in _ANSWERS_UNKNOWN:
        return Remedy("--no-assistant-only-loss", "trains on every token of the conversations")
    if file.startswith("hf://"):
        return Remedy(f"look at row {rejected.line}", "on the dataset's page on the Hub")
    if reason in _WHOLE_FILE:
        return Remedy(f"ls -l {shlex.quote(file)}", "shows the file")
    if _inner_suffix(file) in _TABLES:
        show = f"print(t.slice({rejected.line - 1}, 1).to_pylist())"
        return Remedy(_python(file, show), "shows the first of them")
    return Remedy(piped(file, f"sed -n {rejected.line}p"), "shows the first of them")


def _rename_fields(file: str, keys: Sequence[str]) -> Remedy:
    """A command that gives fields the names they are read by, guessed from their own names."""
    names = {key: _SYNONYMS[key] for key in keys if key in _SYNONYMS}
    if not names:
        close = {key: difflib.get_close_matches(key, sorted(KEYS), n=1) for key in keys}
        names = {key: found[0] for key, found in close.items() if found} or {keys[0]: "text"}
    gives = f"if that is the {' and the '.join(dict.fromkeys(names.values()))}"
    if file.startswith("hf://"):
        renamed = ", ".join(f"{old} to {new}" for old, new in names.items())
        return Remedy(f"make a copy that renames {renamed}", gives)
    suffix = _inner_suffix(file)
    if suffix in _TABLES:
        renamed = f"t.rename_columns([{names!r}.get(n, n) for n in t.column_names])"
        write = f"p.write_table({renamed}, {file + '.parquet'!r})"
        return Remedy(_python(file, write), gives)
    if suffix in (".csv", ".tsv"):
        rules = [f"-e '1s/{key}/{name}/'" for key, name in names.items()]
    else:
        rules = [f"""-e 's/"{key}" *:/"{name}":/g'""" for key, name in names.items()]
    return Remedy(converting(file, " ".join(["sed", *rules]), suffix or ".jsonl"), gives)


def _inner_suffix(file: str) -> str:
    """The format suffix of a name, without its compression suffix."""
    return Path(file.removesuffix(suffix_of(file))).suffix.lower()


def _python(file: str, code: str) -> str:
    """A command that reads a table as `t`, and runs code on it."""
    if _inner_suffix(file) == ".parquet":
        read = f"t = p.read_table({file!r})"
    else:
        read = (
            f"import pyarrow.ipc as i; f = open({file!r}, 'rb'); is_file = f.read(6) == b'ARROW1'; "
            "f.seek(0); t = (i.open_file if is_file else i.open_stream)(f).read_all()"
        )
    return f"python -c {shlex.quote(f'import pyarrow.parquet as p; {read}; {code}')}"
