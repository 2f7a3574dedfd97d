"""Data sets of a hub on this machine, streamed by the real library: in order, cut off, refused."""

import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest
from tests.hub_child import child, find_dataset, read_rows
from tests.hub_server import COMMIT, HubServer
from tests.web_server import Fault

from headway.base.errors import Exit, RefusalMessage, UsageError
from headway.base.network.retry import RetryPolicy
from headway.data.sources import hub_dataset as hub
from headway.data.sources.find import find_sources


def rows(begin: int, end: int) -> bytes:
    return b"".join(json.dumps({"text": f"row {n}"}).encode() + b"\n" for n in range(begin, end))


REPOS = {
    "me/notes": {
        "README.md": b"# notes\n",
        "data/train-00000-of-00002.jsonl": rows(0, 500),
        "data/train-00001-of-00002.jsonl": rows(500, 800),
        "data/test-00000-of-00001.jsonl": rows(0, 3),
    },
    "me/several": {
        "README.md": (
            b"---\nconfigs:\n- config_name: short\n  data_files: short.jsonl\n"
            b"- config_name: long\n  data_files: long.jsonl\n---\n"
        ),
        "short.jsonl": rows(0, 2),
        "long.jsonl": rows(0, 9),
    },
    "me/broken": {"data.jsonl": rows(0, 3) + b'{"text": \n'},
    "me/empty": {"README.md": b"# nothing yet\n"},
    "me/closed": {"data.jsonl": rows(0, 3)},
}


@pytest.fixture(scope="module")
def server() -> Iterator[HubServer]:
    with HubServer() as server:
        server.repos["datasets"] = REPOS
        server.gated = {"me/closed"}
        yield server


@pytest.fixture(scope="module")
def fresh(
    server: HubServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ProcessPoolExecutor]:
    with child(server.url(""), tmp_path_factory.mktemp("hub")) as pool:
        yield pool


def ask(fresh: ProcessPoolExecutor, question: Any, *words: Any) -> Any:
    return fresh.submit(question, *words).result(60)


def refused(fresh: ProcessPoolExecutor, address: str) -> Any:
    answer = ask(fresh, find_dataset, address)
    assert isinstance(answer, RefusalMessage)
    (finding,) = answer.findings
    assert finding.have
    assert finding.need
    assert finding.remedies
    return answer.code, finding


# ---- found and read --------------------------------------------------------------------------


def test_each_shard_is_a_source_at_the_commit_of_now(fresh: ProcessPoolExecutor) -> None:
    first, second = (len(content) for name, content in REPOS["me/notes"].items() if "train" in name)
    assert ask(fresh, find_dataset, "hf://me/notes") == [
        ("hf://me/notes@train#1/2", (COMMIT,), first),
        ("hf://me/notes@train#2/2", (COMMIT,), second),
    ]
    (test,) = ask(fresh, find_dataset, "me/notes@test")
    assert test[0] == "hf://me/notes@test"
    (long,) = ask(fresh, find_dataset, "hf://datasets/me/several/long")
    assert long == ("hf://me/several/long@train", (COMMIT,), len(rows(0, 9)))


def test_the_size_of_a_large_set_is_not_told_by_its_packed_bytes() -> None:
    stored = {"a.parquet": 50_000_000, "b.parquet": 14_000_000}
    files = [f"hf://datasets/me/large@{COMMIT}/{name}" for name in stored]
    assert hub._sizes(files, stored, 2) == [50_000_000, 14_000_000]
    assert hub._sizes(files, stored | {"a.parquet": 50_000_001}, 2) == [0, 0]
    assert hub._sizes([*files, "https://example.org/c"], stored, 3) == [0, 0, 0]


def test_rows_come_in_their_order_and_from_any_row_on(fresh: ProcessPoolExecutor) -> None:
    read, _ = ask(fresh, read_rows, "hf://me/notes")
    assert [row["text"] for row in read] == [f"row {n}" for n in range(800)]
    read, _ = ask(fresh, read_rows, "hf://me/notes", 290)
    assert [row["text"] for row in read] == [
        f"row {n}" for n in [*range(290, 500), *range(790, 800)]
    ]


@pytest.mark.parametrize("kind", ["503", "drop", "reset", "short", "429", "500"])
def test_f56_faults_on_the_way_lose_and_repeat_no_row(
    fresh: ProcessPoolExecutor, server: HubServer, kind: str
) -> None:
    server.script = [Fault(kind, 700, {"Retry-After": "0"} if kind == "429" else {})]
    read, _ = ask(fresh, read_rows, "hf://me/notes")
    assert not server.script
    assert [row["text"] for row in read] == [f"row {n}" for n in range(800)]


def test_f56_a_hub_that_never_recovers_ends_the_reading_with_its_cause(
    fresh: ProcessPoolExecutor, server: HubServer
) -> None:
    """The library's own attempts take longer than we wait for it."""
    ask(fresh, find_dataset, "hf://me/notes")  # its list is known from then on
    server.script = [Fault("503")] * 1000
    answer = ask(fresh, read_rows, "hf://me/notes", 0, RetryPolicy(2, 0.5, 0.01))
    server.script = []
    assert answer.code == Exit.COME_BACK
    (finding,) = answer.findings
    assert finding.what == "cannot fetch hf://me/notes@train#1/2: no data for 0.5 s"
    assert "2 times in a row" in finding.have


# ---- refused ---------------------------------------------------------------------------------


def test_a_data_set_that_is_not_there_is_refused_with_those_of_a_like_name(
    fresh: ProcessPoolExecutor,
) -> None:
    code, finding = refused(fresh, "hf://you/notes")
    assert (code, finding.what) == (Exit.USAGE, "the dataset you/notes was not found on the Hub")
    assert [remedy.do for remedy in finding.remedies] == ["hf://me/notes"]


def test_a_data_set_that_is_not_open_says_where_to_ask(fresh: ProcessPoolExecutor) -> None:
    code, finding = refused(fresh, "hf://me/closed")
    assert (code, finding.have) == (Exit.USAGE, "no token")
    assert "/datasets/me/closed" in finding.need
    assert finding.remedies[0].do == "hf auth login"


def test_several_configurations_are_named(fresh: ProcessPoolExecutor) -> None:
    code, finding = refused(fresh, "hf://me/several")
    assert (code, finding.what) == (Exit.USAGE, "hf://me/several has several configurations")
    assert [remedy.do for remedy in finding.remedies] == [
        "hf://me/several/short",
        "hf://me/several/long",
    ]
    assert "no configuration lnog" in refused(fresh, "hf://me/several/lnog")[1].what


def test_a_split_that_it_does_not_have_is_refused_with_those_it_has(
    fresh: ProcessPoolExecutor,
) -> None:
    code, finding = refused(fresh, "hf://me/notes@trian")
    assert (code, finding.what) == (Exit.USAGE, "hf://me/notes@trian has no split trian")
    assert [remedy.do for remedy in finding.remedies] == [
        "hf://me/notes@train",
        "hf://me/notes@test",
    ]


def test_a_data_set_without_data_is_refused(fresh: ProcessPoolExecutor) -> None:
    code, finding = refused(fresh, "hf://me/empty")
    assert (code, finding.what) == (Exit.DATA, "cannot read hf://me/empty")


def test_a_row_that_cannot_be_read_is_named(fresh: ProcessPoolExecutor) -> None:
    answer = ask(fresh, read_rows, "hf://me/broken")
    assert answer.code == Exit.DATA
    assert answer.findings[0].what.startswith("cannot read hf://me/broken@train")


def test_without_a_hub_it_is_to_be_tried_again(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("offline")
    with child("http://127.0.0.1:9", home, HF_HUB_OFFLINE="1") as offline:
        code, finding = refused(offline, "hf://me/notes")
        assert code == Exit.COME_BACK
        assert "HF_HUB_OFFLINE is set" in finding.have
        assert finding.remedies[0].do == "unset HF_HUB_OFFLINE"


@pytest.mark.parametrize("address", ["hf://notes", "hf://", "hf://a/b#x", "hf://../b"])
def test_what_is_no_address_of_a_data_set_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="is not a valid dataset address"):
        find_sources([address])


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UsageError) as refusal:
        find_sources(["hf://me/notes"])
    assert refusal.value.remedies[0].do == "pip install 'headway[hub]'"


@pytest.mark.parametrize("name", ["notes/a.jsonl", "code/a.txt.gz"])
def test_a_files_name_is_never_asked_of_the_hub(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "find", None)
    with pytest.raises(UsageError, match="no such file or folder"):
        find_sources([name])
