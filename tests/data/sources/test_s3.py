"""Objects of an S3-compatible store, a real one on this machine: listed, read, cut off, changed."""

import os
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.buckets import forget_all_buckets
from tests.data.sources.test_http import Watched
from tests.web_server import FAULTS, Fault, serving

from headway.base.errors import ComeBack, UsageError
from headway.base.network.retry import RetryPolicy, TransientError
from headway.base.pulse import Pulse
from headway.data.sources import s3
from headway.data.sources.find import chunks, find_sources, open_seekable
from headway.data.sources.source import Source

KEYS = (
    "one.jsonl",
    "shards/b.jsonl.zst",
    "shards/a.jsonl.zst",
    "shards/deep/c.jsonl.zst",
    "shards/.hidden.jsonl.zst",
    "shards/readme.md",
    "shards/empty/",
)
QUICK = RetryPolicy(max_attempts=3, stall_timeout_s=120, initial_backoff_s=0.001)


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """The address of a store with a bucket `data`."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    forget_all_buckets()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield f"http://{host}:{port}"
        server.stop()


@pytest.fixture(scope="module")
def client(store: str) -> Any:
    import boto3

    client = boto3.client("s3", endpoint_url=store)
    client.create_bucket(Bucket="data")
    for key in KEYS:
        client.put_object(Bucket="data", Key=key, Body=key.encode())
    return client


@pytest.fixture(autouse=True)
def filled(client: Any) -> None:
    """Every test sees the same bucket."""


def found(store: str, name: str) -> list[str]:
    return [source.name for source in find_sources([f"s3://data/{name}"], endpoint_url=store)]


def whole(source: Source, begin: int = 0) -> bytes:
    return b"".join(chunks(source, Pulse(), begin))


# ---- what is meant ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("one.jsonl", ["one.jsonl"]),
        ("shards/", ["a.jsonl.zst", "b.jsonl.zst", "deep/c.jsonl.zst", "readme.md"]),
        ("shards", ["a.jsonl.zst", "b.jsonl.zst", "deep/c.jsonl.zst", "readme.md"]),
        ("shards/*.jsonl.zst", ["a.jsonl.zst", "b.jsonl.zst"]),
        ("shards/**/*.zst", ["a.jsonl.zst", "b.jsonl.zst", "deep/c.jsonl.zst"]),
        ("*/[a-b].*", ["a.jsonl.zst", "b.jsonl.zst"]),
        ("shards/.h*", [".hidden.jsonl.zst"]),
        ("sh**/b*", ["b.jsonl.zst"]),
        ("shards/**", ["a.jsonl.zst", "b.jsonl.zst", "deep/c.jsonl.zst", "readme.md"]),
        ("shards/?.jsonl.zst", ["a.jsonl.zst", "b.jsonl.zst"]),
    ],
)
def test_keys_prefixes_and_patterns_are_listed_in_order(
    store: str, name: str, keys: list[str]
) -> None:
    above = "" if name == "one.jsonl" else "shards/"
    assert found(store, name) == [f"s3://data/{above}{key}" for key in keys]


def test_the_whole_bucket_is_a_prefix(store: str) -> None:
    assert len(found(store, "")) == 5


def test_an_object_has_its_size_and_its_etag(store: str, client: Any) -> None:
    (source,) = find_sources(["s3://data/one.jsonl"], endpoint_url=store)
    etag = client.head_object(Bucket="data", Key="one.jsonl")["ETag"]
    assert (source.size, source.stamp) == (9, (etag, 9))
    assert (source.found, source.is_stream) == (False, False)


def test_a_listing_of_several_pages_is_read_to_its_end(
    store: str, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from s3fs import S3FileSystem

    call = S3FileSystem._call_s3
    pages: list[str] = []

    async def paged(self: Any, method: str, *args: Any, **asked: Any) -> Any:
        pages.append(method)
        return await call(self, method, *args, **asked, MaxKeys=2)

    monkeypatch.setattr(S3FileSystem, "_call_s3", paged)
    assert len(found(store, "shards/")) == 4
    assert len(pages) > 2


def test_a_folders_placeholder_is_not_taken_for_its_objects(store: str, client: Any) -> None:
    for key in ("marked/", "marked/a.txt"):
        client.put_object(Bucket="data", Key=key, Body=b"")
    assert found(store, "marked/") == ["s3://data/marked/a.txt"]


def test_a_key_is_preferred_to_the_objects_below_it(store: str, client: Any) -> None:
    for key in ("both", "both/a.txt"):
        client.put_object(Bucket="data", Key=key, Body=b"")
    assert found(store, "both") == ["s3://data/both"]
    assert found(store, "both/") == ["s3://data/both/a.txt"]


def test_a_listing_may_take_longer_than_a_request(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = s3._list_objects

    def slow(*words: Any) -> list[Source]:
        time.sleep(0.3)
        return listed(*words)

    monkeypatch.setattr(s3, "_list_objects", slow)
    pulse, retry = Watched(), RetryPolicy(max_attempts=1, stall_timeout_s=0.1)
    client = s3._store(store, QUICK)
    monkeypatch.setattr(s3, "_store", lambda *_: client)
    assert len(s3.find("s3://data/shards/", store, pulse, retry)) == 4


def test_a_part_of_a_listing_that_fails_fails_it(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from s3fs import S3FileSystem

    call = S3FileSystem._call_s3
    pages: list[str] = []

    async def failing(self: Any, method: str, *args: Any, **asked: Any) -> Any:
        pages.append(method)
        if len(pages) > 1:
            raise OSError("SlowDown")
        return await call(self, method, *args, **asked, MaxKeys=2)

    monkeypatch.setattr(S3FileSystem, "_call_s3", failing)
    with pytest.raises(ComeBack):
        s3.find("s3://data/shards/*", store, Pulse(), RetryPolicy(max_attempts=1))


def test_the_environments_store_is_the_store(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", store)
    s3._store.cache_clear()
    (source,) = find_sources(["s3://data/one.jsonl"])
    assert whole(source) == b"one.jsonl"
    s3._store.cache_clear()


# ---- bytes -----------------------------------------------------------------------------------


def test_an_object_is_read_whole_from_a_byte_on_and_anywhere(store: str, client: Any) -> None:
    content = bytes(range(256)) * 4096
    client.put_object(Bucket="data", Key="large/one.bin", Body=content)
    (source,) = find_sources(["s3://data/large/one.bin"], endpoint_url=store)
    assert whole(source) == content
    assert whole(source, 1_000_000) == content[1_000_000:]
    assert whole(source, len(content)) == b""
    with open_seekable(source, Pulse()) as file:
        file.seek(500_000)
        assert file.read(1000) == content[500_000:501_000]


def test_an_empty_object_is_empty(store: str, client: Any) -> None:
    client.put_object(Bucket="data", Key="nothing/a.txt", Body=b"")
    (source,) = find_sources(["s3://data/nothing/a.txt"], endpoint_url=store)
    assert whole(source) == b""


def test_f56_it_goes_on_at_the_byte_where_it_was_cut(
    store: str, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = os.urandom(100_000)
    client.put_object(Bucket="data", Key="cut/a.bin", Body=content)
    (source,) = find_sources(["s3://data/cut/a.bin"], endpoint_url=store)
    begins: list[int] = []
    read = s3._read

    def cut(source: Source, at: int, goal: int, put: Any, retry: RetryPolicy) -> None:
        begins.append(at)
        read(source, at, min(goal, at + 30_000), put, retry)
        if at + 30_000 < goal:
            raise TransientError("the connection was reset")

    monkeypatch.setattr(s3, "_read", cut)
    pieces = s3.chunks(source, Pulse(), retry=QUICK)
    assert b"".join(p for p in pieces if p) == content
    assert begins == [0, 30_000, 60_000, 90_000]


@pytest.mark.parametrize("seed", range(8))
def test_f56_eight_faults_on_the_way_lose_and_repeat_no_byte(store: str, seed: int) -> None:
    """The client is the real one, the store one that fails as it is told to."""
    print("seed", seed)
    chance = random.Random(seed)
    kinds = [kind for kind in FAULTS if kind != "chunked"]
    content = chance.randbytes(50_000)
    with serving(content) as server:
        server.script = [
            Fault(chance.choice(kinds), chance.randrange(len(content))) for _ in range(8)
        ]
        source = Source(
            "s3://data/a.bin",
            None,
            len(content),
            stamp=('"one"', len(content)),
            address="s3://data/a.bin",
            endpoint=server.url("").rstrip("/"),
        )
        retry = RetryPolicy(
            max_attempts=50, stall_timeout_s=0.3, initial_backoff_s=0.001, max_backoff_s=0.01
        )
        pieces = s3.chunks(source, Pulse(), retry=retry)
        assert b"".join(p for p in pieces if p) == content
        assert {headers["If-Match"] for _, headers in server.requests} == {'"one"'}


def test_f56_an_object_that_changed_is_not_patched_together(store: str, client: Any) -> None:
    client.put_object(Bucket="data", Key="changing/a.txt", Body=b"before")
    (source,) = find_sources(["s3://data/changing/a.txt"], endpoint_url=store)
    client.put_object(Bucket="data", Key="changing/a.txt", Body=b"behind")
    with pytest.raises(ComeBack, match="changed while it was being read"):
        whole(source)


def test_f56_a_store_that_does_not_answer_is_named(store: str) -> None:
    pulse = Watched()
    with pytest.raises(ComeBack, match=r"cannot fetch .*: no connection") as refusal:
        s3.find("s3://data/one.jsonl", "http://127.0.0.1:9", pulse, QUICK)
    assert "127.0.0.1:9: no connection, 3 times in a row" in refusal.value.have
    assert "127.0.0.1:9: no connection, retrying in 0.0 s (2 of 3)" in pulse.waits


# ---- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("s3://data/nothing-like-it.jsonl", "no such object or prefix"),
        ("s3://data/*.parquet", "no object matches"),
        ("s3://no-such-bucket/a", "not found (NoSuchBucket)"),
        ("s3://", "no bucket in the address"),
        ("s3://A B/a", "not a valid bucket name"),
    ],
)
def test_what_is_not_there_is_refused_with_a_line_that_lists(
    store: str, name: str, why: str
) -> None:
    with pytest.raises(UsageError) as refusal:
        find_sources([name], endpoint_url=store)
    assert refusal.value.what == f"cannot read {name}: {why}"
    assert refusal.value.remedies[0].do.startswith(f"aws s3 ls --endpoint-url {store} ")


def test_without_leave_it_is_refused(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from botocore.exceptions import ClientError

    answer: Any = {
        "Error": {"Code": "AccessDenied"},
        "ResponseMetadata": {"HTTPStatusCode": 403},
    }
    error = s3._translate(ClientError(answer, "ListObjectsV2"), "s3://data/a", store, None)
    assert isinstance(error, UsageError)
    assert "permission denied (403 AccessDenied)" in error.what
    assert "AWS_ACCESS_KEY_ID" in error.need


@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (500, "InternalError"), (429, "")])
def test_f56_a_store_that_is_busy_is_tried_again(status: int, code: str) -> None:
    from botocore.exceptions import ClientError

    answer: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    error = s3._translate(ClientError(answer, "GetObject"), "s3://data/a", "", None)
    assert isinstance(error, TransientError)
    assert str(status) in error.reason


def test_f62_a_password_in_the_stores_address_is_refused_and_not_repeated(store: str) -> None:
    with pytest.raises(UsageError) as refusal:
        find_sources(["s3://data/a"], endpoint_url="http://me:canary@127.0.0.1:9")
    assert "canary" not in str(refusal.value)


# ---- the client ------------------------------------------------------------------------------


def made(monkeypatch: pytest.MonkeyPatch, **environment: str) -> Any:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return s3._store.__wrapped__("http://127.0.0.1:9", QUICK)


def test_checksums_that_older_stores_refuse_are_left_out(
    monkeypatch: pytest.MonkeyPatch, store: str
) -> None:
    config = made(monkeypatch).config_kwargs
    assert config["request_checksum_calculation"] == "when_required"
    assert config["response_checksum_validation"] == "when_required"


def test_checksums_are_as_the_person_says(monkeypatch: pytest.MonkeyPatch, store: str) -> None:
    config = made(monkeypatch, AWS_REQUEST_CHECKSUM_CALCULATION="when_supported").config_kwargs
    assert "request_checksum_calculation" not in config
    assert config["response_checksum_validation"] == "when_required"


def test_without_credentials_the_store_is_asked_anonymously(
    monkeypatch: pytest.MonkeyPatch, store: str
) -> None:
    assert not made(monkeypatch).anon
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    nowhere = {"AWS_SHARED_CREDENTIALS_FILE": "/nowhere", "AWS_CONFIG_FILE": "/nowhere"}
    assert made(monkeypatch, **nowhere).anon
