"""Odd and hostile model folders are refused in four parts that name the file, or train."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.boundaries.ends import end_of
from tests.boundaries.odd_models import CONFIG, KINDS, QUANTIZED, TOKENIZER, WEIGHTS, copied

from headway.base.errors import Cause

# What transformers and Headway can do without, or correct.
TRAINS = {
    *("config/end negative", "config/end huge"),
    *("config/code a word", "config/code a list"),
    *("tokenizer/length a word", "tokenizer/length negative", "tokenizer/length zero"),
    "tokenizer/vocabulary without bytes",
}
WRITES_NOTHING = {"tokenizer/template a dict"}  # of the conversations
CASES = [
    f"{kind}/{name}"
    for kind in ("config", "quantized", "tokenizer", "weights")
    for name in KINDS[kind]
]


def test_the_good_folder_trains(good: Path, chats: Path, tmp_path: Path) -> None:
    assert end_of(chats, good, tmp_path).code == 0


@pytest.mark.parametrize("case", CASES)
def test_a_folder_with_one_thing_changed(
    case: str, good: Path, chats: Path, tmp_path: Path
) -> None:
    kind, _, name = case.partition("/")
    folder = copied(good, tmp_path / "odd", KINDS[kind][name])
    end = end_of(chats, folder, tmp_path)
    if case in TRAINS:
        assert end.code == 0, end.said
    else:
        assert end.code in (2, 3)
        assert end.is_told("chats.jsonl" if case in WRITES_NOTHING else "odd"), end.said


@pytest.mark.parametrize(
    ("change", "file", "cause"),
    [
        (CONFIG["layers a word"], "config.json", Cause.MODEL_INVALID),
        (CONFIG["norm a word"], "config.json", Cause.MODEL_INVALID),
        (CONFIG["generation a list"], "generation_config.json", Cause.MODEL_INVALID),
        (CONFIG["a router's loss"], "config.json", Cause.MODEL_UNSUPPORTED),
        (CONFIG["layers negative"], "config.json", Cause.MODEL_INVALID),
        (CONFIG["layers fewer than stored"], "config.json", Cause.WEIGHTS_UNUSED),
        (CONFIG["a headway.json"], "headway.json", Cause.CHECKPOINT_MISMATCH),
        (QUANTIZED["GPTQ"], "config.json", Cause.MODEL_UNSUPPORTED),
        (QUANTIZED["GPTQ's own file"], "quantize_config.json", Cause.MODEL_UNSUPPORTED),
        (TOKENIZER["end a list"], "tokenizer_config.json", Cause.TOKENIZER_INVALID),
        (TOKENIZER["vocabulary empty"], "tokenizer.json", Cause.TOKENIZER_INVALID),
        (TOKENIZER["template not UTF-8"], "chat_template.jinja", Cause.TOKENIZER_INVALID),
        (WEIGHTS["shape huge"], "model.safetensors", Cause.MODEL_INVALID),
    ],
)
def test_the_file_and_the_cause_are_told(
    change: Callable[[Path], None],
    file: str,
    cause: Cause,
    good: Path,
    chats: Path,
    tmp_path: Path,
) -> None:
    end = end_of(chats, copied(good, tmp_path / "odd", change), tmp_path)
    assert end.is_told(file), end.said
    assert end.refusal is not None
    assert end.refusal.cause == cause


def test_the_remedy_for_a_headway_json_of_another_thing_works(
    good: Path, chats: Path, tmp_path: Path
) -> None:
    folder = copied(good, tmp_path / "odd", CONFIG["a headway.json"])
    (folder / "headway.json").rename(folder / "headway.json.old")  # as the refusal says
    assert end_of(chats, folder, tmp_path).code == 0
