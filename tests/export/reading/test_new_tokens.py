"""Tokens without an embedding are refused by name; placeholders need none."""

import json
from pathlib import Path

import pytest
from tests.export.folders import adapter_folder, model_folder

from headway.base.errors import Cause, UsageError
from headway.data.examples import tokenizer as tokenizers
from headway.export.reading.new_tokens import check_words


def with_tokens(folder: Path, *tokens: str) -> Path:
    path = folder / "tokenizer.json"
    words = json.loads(path.read_text())
    for number, token in enumerate(tokens):
        entry = words["added_tokens"][0] | {"id": 259 + number, "content": token}
        words["added_tokens"].append(entry)
    path.write_text(json.dumps(words))
    return folder


@pytest.mark.parametrize(
    ("tokens", "rows", "is_refused"),
    [
        ((), 259, False),
        (("<a>", "<b>"), 259, True),
        (("<a>", "<b>"), 260, True),
        (("<a>", "<b>"), 261, False),
        (("<a>", "<b>"), 0, False),
        (("<image_soft_token>",), 259, False),
        (("<image_soft_token>", "<a>"), 259, True),
    ],
)
def test_every_token_needs_a_row(
    tmp_path: Path, tokens: tuple[str, ...], rows: int, *, is_refused: bool
) -> None:
    folder = with_tokens(model_folder(tmp_path / "model"), *tokens)
    tokenizer = tokenizers.load(folder)
    if not is_refused:
        check_words(tokenizer, rows, folder)
        return
    with pytest.raises(UsageError) as refused:
        check_words(tokenizer, rows, folder)
    assert refused.value.cause is Cause.TOKEN_OUTSIDE_EMBEDDING


def test_l09_adapters_whose_new_tokens_were_not_saved(tmp_path: Path) -> None:
    base = with_tokens(model_folder(tmp_path / "base"), "<tool>")
    adapter = adapter_folder(tmp_path / "adapter", base)
    with pytest.raises(UsageError) as refused:
        check_words(tokenizers.load(base), 259, adapter)
    assert refused.value.cause is Cause.EMBEDDINGS_UNTRAINED
