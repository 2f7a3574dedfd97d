"""Data and models that are elsewhere, by the command line: found, read, refused, kept secret."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.buckets import forget_all_buckets
from tests.helpers import save_model
from tests.hub_server import COMMIT, HubServer
from tests.stories.conftest import Headway
from tests.web_server import Fault, serving

SMALL = ("--preset", "tiny", "--max-length", "32", "--batch-size", "4")


def rows(num: int) -> bytes:
    lines = (json.dumps({"text": f"row {n} says what row {n} says\n"}) for n in range(num))
    return "\n".join(lines).encode()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[tuple[HubServer, dict[str, str]]]:
    """A hub with a model and a data set, and the environment that leads to it."""
    folder = save_model(tmp_path / "made" / "small")
    with HubServer() as server:
        server.repos["models"]["me/small"] = {p.name: p.read_bytes() for p in folder.iterdir()}
        server.repos["datasets"]["me/notes"] = {
            "README.md": b"# notes\n",
            "data/train-00000-of-00002.jsonl": rows(60),
            "data/train-00001-of-00002.jsonl": rows(40),
        }
        environment = {"HF_HUB_OFFLINE": "", "HF_HOME": str(tmp_path / "hf")}
        yield server, environment | {"HF_ENDPOINT": server.url("").rstrip("/")}


def test_f62_a_file_is_trained_from_an_address_whose_secrets_are_written_nowhere(
    headway: Headway,
) -> None:
    with serving(rows(200)) as server:
        address = server.url("data.jsonl?X-Signature=canary", user="me:canary@")
        server.script = [Fault(), Fault("short", 1000)]
        done = headway("train", address, *SMALL, "--max-steps", "2")
        assert done.code == 0, done.err
        assert headway.receipt("data")["rows"]["missing"] == 0
        assert headway.plan("data")["data"]["sources"] == [server.url("data.jsonl")]
        again = headway("train", address, *SMALL, "--max-steps", "2")
        assert "already trained, 0 new steps" in again.out
    told = done.out + done.err + again.out + again.err
    kept = b"".join(path.read_bytes() for path in headway.here.rglob("*") if path.is_file())
    assert "canary" not in told
    assert b"canary" not in kept


def test_what_a_server_refuses_is_told_before_anything_is_written(headway: Headway) -> None:
    with serving(b"") as server:
        server.script = [Fault("404")]
        done = headway("train", server.url("lost.jsonl"), *SMALL)
        assert done.code == 2
        assert f"cannot fetch {server.url('lost.jsonl')}: 404 Not Found" in done.err
        assert f"try   curl -sSIL {server.url('lost.jsonl')}" in done.err
    assert not list(headway.here.iterdir())


def test_a_data_set_and_a_model_are_named_by_their_ids(
    headway: Headway, hub: tuple[HubServer, dict[str, str]]
) -> None:
    server, environment = hub
    told = headway(
        "plan", "me/notes", "--model", "me/small", "--max-length", "32", "--json", **environment
    )
    assert told.code == 0, told.err
    plan = told.json
    assert (plan["model"]["name"], plan["model"]["commit"]) == ("me/small", COMMIT)
    assert Path(plan["model"]["path"], "config.json").is_file()
    assert plan["data"]["records"]["accepted"] == 100

    server.requests.clear()
    data = headway.write("here.jsonl", rows(50))
    offline = headway(
        "plan",
        data,
        "--model",
        "me/small",
        "--max-length",
        "32",
        **environment | {"HF_HUB_OFFLINE": "1"},
    )
    assert offline.code == 0, offline.err
    assert not server.requests


def test_a_model_that_is_not_there_is_refused_with_one_that_is(
    headway: Headway, hub: tuple[HubServer, dict[str, str]]
) -> None:
    data = headway.write("here.jsonl", rows(50))
    told = headway("plan", data, "--model", "you/small", **hub[1])
    assert told.code == 2
    assert "the model you/small was not found on the Hub" in told.err
    assert "try   --model me/small" in told.err


def test_objects_of_a_store_are_planned(headway: Headway) -> None:
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    forget_all_buckets()
    host, port = server.get_host_and_port()
    store = f"http://{host}:{port}"
    keys = {
        "AWS_ACCESS_KEY_ID": "me",
        "AWS_SECRET_ACCESS_KEY": "canary",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    client = boto3.client(
        "s3",
        endpoint_url=store,
        region_name="us-east-1",
        aws_access_key_id="me",
        aws_secret_access_key="canary",
    )
    client.create_bucket(Bucket="data")
    for shard in ("b", "a"):
        client.put_object(Bucket="data", Key=f"shards/{shard}.jsonl", Body=rows(50))
    words = ("plan", "s3://data/shards/*.jsonl", "--endpoint-url", store, *SMALL)
    told = headway(*words, "--json", **keys)
    server.stop()
    assert told.code == 0, told.err
    assert told.json["data"]["records"]["accepted"] == 100
    assert "canary" not in told.out + told.err


def test_f62_no_credential_of_a_setting_or_an_address_is_told_or_kept(headway: Headway) -> None:
    headway.write("notes.txt", "All work and no play makes Jack a dull boy. " * 40)
    store = "http://user:canary@127.0.0.1:9/?X-Amz-Signature=canary"
    done = headway(
        *("train", "notes.txt", "--preset", "tiny", "--max-steps", 1, "--max-length", 16),
        *("--endpoint-url", store, "--verbose"),
    )
    assert done.code == 0, done.err
    kept = [path for path in (headway.here / "runs").rglob("*") if path.is_file()]
    assert [path.name for path in kept if b"canary" in path.read_bytes()] == []
    assert headway.plan("notes")["name"] == "notes"
    refused = headway("train", "s3://user:canary@b/x", "--preset", "tiny", "--verbose")
    assert refused.code == 2
    assert "canary" not in done.out + done.err + refused.out + refused.err
