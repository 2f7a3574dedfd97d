"""Why data is refused, and what would mend it."""

import math
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from headway.base.errors import DataRefused, Remedy
from headway.base.units import count, plural, share
from headway.data.examples import tokenizer as tokenizers
from headway.data.formats.detect import WHOLE_FILE
from headway.data.formats.items import Skipped
from headway.data.formats.records import DataKind, Record, Rejected
from headway.data.sources.source import Source
from headway.data.survey.mending import mend
from headway.data.survey.store import Store

_KINDS: dict[DataKind, str] = {
    "text": "text",
    "conversations": "conversation",
    "tokens": "tokenised record",
}
_NEED = (
    "text, or rows with text, messages, conversations, prompt and completion, instruction and "
    "output, or input_ids"
)


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
            remedies=(mend(Rejected(first.file, 1, first.reason)),),
        )
    first = rejected[0]
    if len(rejected) == 1 and first.reason in WHOLE_FILE:
        return DataRefused(
            f"{first.file} is {first.reason}",
            have=first.detail,
            need=_NEED,
            remedies=(mend(first),),
        )
    common = _by_reason(rejected)[0][1]
    what = f"{common.file}:{common.line}: {common.reason}"
    if common.reason == "preference data":
        what = f"{common.file} is preference data, which Headway does not train on"
    elif len(rejected) > 1:
        what += f"; none of {count(len(rejected))} rows can be trained on"
    return DataRefused(what, have=_table(rejected), need=_need(common), remedies=(mend(common),))


def mixed(kinds: Mapping[DataKind, int], first: Mapping[DataKind, Record]) -> DataRefused:
    """Records of several kinds."""
    together: list[DataKind] = [kind for kind in _KINDS if kind in first]
    files: dict[DataKind, str] = {kind: shlex.quote(first[kind].file) for kind in together}
    if len(set(files.values())) == 1:
        (file,) = set(files.values())
        remedies = (Remedy(f"grep '\"messages\"' {file} > conversations.jsonl", "those alone"),)
    else:
        remedies = tuple(
            Remedy(f"headway train {file}", f"the {_KINDS[kind]}s") for kind, file in files.items()
        )
    return DataRefused(
        f"{' and '.join(f'{_KINDS[kind]}s' for kind in together)} together in one run",
        have="\n".join(
            f"{plural(kinds[kind], _KINDS[kind])}, first {first[kind].file}:{first[kind].line}"
            for kind in together
        ),
        need="one kind: their rows are counted differently",
        remedies=remedies,
    )


def too_many_rejected(
    rejected: Sequence[Rejected], num: int, read: int, max_rejected: float
) -> DataRefused:
    """More unusable rows than the settings allow.

    Args:
        rejected: all of them, or as many as are at hand.
        num: how many there are.
        read: records, good and bad.
        max_rejected: the share that is allowed.
    """
    enough = math.ceil(1000 * num / read) / 1000
    common = _by_reason(rejected)[0][1]
    return DataRefused(
        f"{count(num)} of {plural(read, 'row')} cannot be trained on",
        have=f"{share(num, read)} rejected\n{_table(rejected)}",
        need=f"at most {share(max_rejected)} (max_rejected)",
        remedies=(mend(common), Remedy(f"--max-rejected {enough:g}", "trains on the others")),
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
    if rejected.reason in ("no trained token", "no untrained token", "the template fails"):
        return "answers that the chat template writes"
    if rejected.reason == "preference data":
        return "one answer to each prompt: it is learned, not compared"
    return _NEED
