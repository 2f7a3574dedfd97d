"""A survey is plain values: it survives JSON, and what older ones lack has a default."""

from typing import Any

import msgspec
import pytest

from headway.data.survey.result import Lengths, Survey, SurveySample, by_reason

REQUIRED: dict[str, Any] = {
    "kind": "text",
    "sources": ("a.txt",),
    "records_read": 3,
    "records_rejected": {"not JSON": 1},
    "records_accepted": 2,
    "bytes": 100,
    "characters": 90,
    "tokens": 40,
    "trained_tokens": 38,
    "lengths": Lengths(20.0, 20.0, 24.0, 25),
    "vocab_size": 300,
    "max_id": 299,
    "end_id": 0,
    "fingerprint": "f",
    "tokenizer": "t",
    "tokenizer_from": "byte-level",
    "template": "",
    "marked_example": "a\u00abb\u00bb",
    "seconds": 0.5,
}


@pytest.mark.parametrize("sampled", [None, SurveySample(100, 1000, 48, 0.02)])
def test_a_survey_comes_back_from_json_as_it_was(sampled: SurveySample | None) -> None:
    survey = Survey(**REQUIRED, duplicates=1, notes={"a note": 2}, sampled=sampled)
    assert msgspec.json.decode(msgspec.json.encode(survey), type=Survey) == survey


def test_an_older_survey_without_the_later_fields_is_read() -> None:
    read = msgspec.json.decode(msgspec.json.encode(REQUIRED), type=Survey)
    assert read == Survey(**REQUIRED)
    assert (read.sampled, read.duplicates, read.contents) == (None, 0, {})


def test_two_surveys_do_not_share_their_counts() -> None:
    assert Survey(**REQUIRED).notes is not Survey(**REQUIRED).notes


@pytest.mark.parametrize(("whole", "scale"), [(1000, 10.0), (100, 1.0), (0, None)])
def test_a_sample_tells_how_much_larger_the_sources_are(whole: int, scale: float | None) -> None:
    assert SurveySample(100, whole, 48, 0.02).scale == scale


def test_what_is_not_read_is_counted_by_reason_with_the_first_names() -> None:
    passed = [(f"file {n}", "empty" if n % 2 else "binary") for n in range(13)]
    binary, empty = by_reason(passed)
    assert (binary.reason, binary.num, empty.reason, empty.num) == ("binary", 7, "empty", 6)
    assert binary.names == tuple(f"file {n}" for n in range(0, 10, 2))
    assert by_reason([]) == ()
