"""Why data is refused, and what would mend it."""

import difflib
import math
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from headway.base.errors import DataRefused, Remedy
from headway.base.units import count, plural, share
from headway.data import tokenizer as tokenizers
from headway.data.formats import WHOLE_FILE, Skipped
from headway.data.records import Kind, Record, Rejected
from headway.data.source import STANDARD_INPUT, Source
from headway.data.store import Store

_NEED = "text, or JSONL whose rows have text, messages, or prompt and completion"


def nothing(
    sources: Sequence[Source], rejected: Sequence[Rejected], skipped: Sequence[Skipped]
) -> DataRefused:
    """Not one usable record was found."""
    names = sources[0].name if len(sources) == 1 else plural(len(sources), "file")
    if not rejected:
        first = skipped[0]
        reasons = Counter(one.reason for one in skipped)
        return DataRefused(
            f"nothing to train on in {names}",
            have=", ".join(f"{count(n)} {reason}" for reason, n in reasons.most_common())
            + f", first {first.file}",
            need=_NEED,
            remedies=(_mend(Rejected(first.file, 1, first.reason)),),
        )
    first = rejected[0]
    if len(rejected) == 1 and first.reason in WHOLE_FILE:
        return DataRefused(
            f"{first.file} is {first.reason}",
            have=first.detail,
            need=_NEED,
            remedies=(_mend(first),),
        )
    common = _by_reason(rejected)[0][1]
    what = f"{common.file}:{common.line}: {common.reason}"
    if len(rejected) > 1:
        what += f"; none of {count(len(rejected))} rows can be trained on"
    return DataRefused(what, have=_table(rejected), need=_need(common), remedies=(_mend(common),))


def mixed(kinds: Mapping[Kind, int], first: Mapping[Kind, Record]) -> DataRefused:
    """Both texts and conversations."""
    text, chat = first["text"], first["conversations"]
    if text.file == chat.file:
        file = shlex.quote(text.file)
        remedies = (Remedy(f"grep '\"messages\"' {file} > conversations.jsonl", "those alone"),)
    else:
        remedies = (
            Remedy(f"headway train {shlex.quote(text.file)}", "the texts"),
            Remedy(f"headway train {shlex.quote(chat.file)}", "the conversations"),
        )
    return DataRefused(
        "texts and conversations together in one run",
        have=f"{plural(kinds['text'], 'text')}, first {text.file}:{text.line}\n"
        f"{plural(kinds['conversations'], 'conversation')}, first {chat.file}:{chat.line}",
        need="one kind: their rows are counted differently",
        remedies=remedies,
    )


def too_many_rejected(store: Store, max_rejected: float) -> DataRefused:
    """More unusable rows than the settings allow."""
    lines = (store.folder / "rejected.jsonl").read_bytes().splitlines()
    rejected = [msgspec.json.decode(line, type=Rejected) for line in lines]
    read = store.survey.records_read
    enough = math.ceil(1000 * len(rejected) / read) / 1000
    common = _by_reason(rejected)[0][1]
    return DataRefused(
        f"{count(len(rejected))} of {plural(read, 'row')} cannot be trained on",
        have=f"{share(len(rejected), read)} rejected\n{_table(rejected)}",
        need=f"at most {share(max_rejected)} (max_rejected)",
        remedies=(_mend(common), Remedy(f"--max-rejected {enough:g}", "trains on the others")),
    )


def beyond_embedding(store: Store, rows: int) -> DataRefused:
    """A token that the model has no embedding for."""
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
        have=f"token {token} ({spelling!r}) of a tokenizer with {count(survey.vocab_size)} tokens "
        f"({survey.tokenizer_from}); the model has {plural(rows, 'embedding row')}",
        need=f"ids below {count(rows)}: the tokenizer that belongs to the model",
        remedies=(Remedy(f'python -c "{grow}"', "gives MODEL rows for them, still to be learned"),),
    )


def _by_reason(rejected: Sequence[Rejected]) -> list[tuple[int, Rejected]]:
    """How often each reason was met, and its first row; the most frequent first."""
    counts = Counter(one.reason for one in rejected)
    first: dict[str, Rejected] = {}
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
    if rejected.reason in ("no trained token", "the template fails"):
        return "answers that the chat template writes"
    return _NEED


def _mend(rejected: Rejected) -> Remedy:
    """What to type about a rejected row or file."""
    reason, file = rejected.reason, shlex.quote(rejected.file)
    if rejected.file == STANDARD_INPUT:
        return Remedy("COMMAND | tee data.txt | headway train -", "keeps what arrives, to look at")
    if reason == "not UTF-8":
        wide = rejected.detail in ("byte 0xff at offset 0", "byte 0xfe at offset 0")
        code = "utf-16" if wide else "latin1"
        return Remedy(f"iconv -f {code} -t utf-8 {file} > {file}.utf8", "and train that file")
    if reason == "no text or messages":
        keys = rejected.detail.removeprefix("keys: ").split(", ")
        near = difflib.get_close_matches("text", keys, n=1, cutoff=0.3) or keys
        rename = f's/"{near[0]}":/"text":/'
        return Remedy(f"sed '{rename}' {file} > {file}.jsonl", "if that is the text")
    if reason in ("no trained token", "the template changes earlier turns"):
        return Remedy("--no-assistant-only-loss", "trains on every token of the conversations")
    if reason in WHOLE_FILE:
        return Remedy(f"ls -l {file}", "what is there")
    return Remedy(f"sed -n {rejected.line}p {file}", "the first of these rows")
