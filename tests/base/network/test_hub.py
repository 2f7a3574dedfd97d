"""Errors of the Hub's libraries become refusals with a cause, or attempts worth repeating."""

import pytest

from headway.base.errors import Cause, ComeBack, Refusal, UsageError
from headway.base.network import hub
from headway.base.network.retry import TransientError


class Response:
    """As much of an HTTP response as is read."""

    def __init__(self, status_code: int, headers: dict[str, str] | None = None) -> None:
        self.status_code = status_code
        self.headers = headers or {}


class HfHubHTTPError(OSError):
    """Named like the library's own."""

    def __init__(self, status: int, headers: dict[str, str] | None = None) -> None:
        super().__init__(f"{status} for https://signed.example/?X-Signature=canary")
        self.response = Response(status, headers)


class GatedRepoError(HfHubHTTPError):
    pass


class OfflineModeIsEnabled(ConnectionError):  # noqa: N818 - the library's name
    pass


class DatasetNotFoundError(FileNotFoundError):
    pass


def caused_by(error: Exception) -> Exception:
    outer = ValueError("outer")
    outer.__cause__ = error
    return outer


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a/b", True), ("a/b.c-d", True), ("a", False), ("a/../b", False), ("a/b/c", False)],
)
def test_an_id_is_owner_and_name(name: str, expected: bool) -> None:
    assert hub.is_id(name) is expected


def test_the_host_follows_the_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://me:secret@mirror.example/hub")
    assert hub.host() == "mirror.example"
    monkeypatch.delenv("HF_ENDPOINT")
    assert hub.host() == "huggingface.co"


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (caused_by(OfflineModeIsEnabled()), Cause.OFFLINE),
        (caused_by(GatedRepoError(403)), Cause.ACCESS_DENIED),
        (DatasetNotFoundError(), Cause.SOURCE_NOT_FOUND),
        (HfHubHTTPError(404), Cause.SOURCE_NOT_FOUND),
        (HfHubHTTPError(401), Cause.ACCESS_DENIED),
    ],
)
def test_what_will_not_pass_is_refused_with_its_cause(error: Exception, cause: Cause) -> None:
    refusal = hub.translate_hub_error(error, "dataset", "a/b")
    assert isinstance(refusal, Refusal)
    assert refusal.cause is cause
    assert "canary" not in str(refusal)


def test_a_dataset_that_exists_and_is_not_found_is_closed_to_this_account() -> None:
    refusal = hub.translate_hub_error(DatasetNotFoundError(), "dataset", "a/b", exists=True)
    assert isinstance(refusal, UsageError)
    assert refusal.cause is Cause.ACCESS_DENIED


def test_a_missing_model_has_a_cause_of_its_own_and_similar_names() -> None:
    refusal = hub.translate_hub_error(HfHubHTTPError(404), "model", "a/b", ("--model a/bb",))
    assert isinstance(refusal, UsageError)
    assert refusal.cause is Cause.MODEL_NOT_FOUND
    assert [remedy.do for remedy in refusal.remedies] == ["--model a/bb"]


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_busy_hub_is_retried_when_it_asks(status: int) -> None:
    error = hub.translate_hub_error(HfHubHTTPError(status, {"retry-after": "7"}), "model", "a/b")
    assert isinstance(error, TransientError)
    assert (error.reason, error.retry_after_s) == (f"{status}", 7.0)


def test_a_lost_connection_is_retried_and_described_by_its_type() -> None:
    error = hub.translate_hub_error(ConnectionError("to https://canary"), "model", "a/b")
    assert isinstance(error, TransientError)
    assert error.reason == "no connection"


def test_any_other_error_stays_as_it_is() -> None:
    error = KeyError("a bug")
    assert hub.translate_hub_error(error, "model", "a/b") is error


def test_offline_says_whether_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    asked, lost = hub.offline_mode("model", "a/b"), hub.unreachable("model", "a/b", "503")
    assert isinstance(asked, ComeBack)
    assert asked.cause is lost.cause is Cause.OFFLINE
    assert asked.remedies[0].do == "unset HF_HUB_OFFLINE"
    assert lost.remedies[0].gives == "when huggingface.co responds"
    assert lost.have == "503; the cache is incomplete"
