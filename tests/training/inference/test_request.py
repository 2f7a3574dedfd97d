"""Inference request and result: the same value after the way to another process."""

import msgspec

from headway.training.inference.request import Evaluation, InferenceRequest, InferenceResult


def test_a_request_is_read_as_it_was_written() -> None:
    request = InferenceRequest("eval", "run/model", data=("a.txt",), max_length=64)
    encoded = msgspec.json.encode(request)
    assert msgspec.json.decode(encoded, type=InferenceRequest) == request


def test_a_result_has_a_loss_or_nothing() -> None:
    for result in (
        InferenceResult(),
        InferenceResult(evaluation=Evaluation(2.5, 0.1, 12.2, None, 8, 100)),
    ):
        assert msgspec.json.decode(msgspec.json.encode(result), type=InferenceResult) == result
