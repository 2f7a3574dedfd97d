"""A model by its id, from a hub on this machine: what is fetched, cut off, refused, found again."""

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.helpers import save_model
from tests.hub_child import QUICK, child, fetch_model, find_model
from tests.hub_server import COMMIT, HubServer
from tests.web_server import Fault

from headway.base.errors import Exit, MachineError, RefusalMessage
from headway.base.network.retry import RetryPolicy
from headway.planning import hub_download as download

CHUNK_BYTES = 10 << 20  # the library writes, and resumes at, multiples of it
LARGE = bytes(range(256)) * (3 << 14)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = save_model(tmp_path_factory.mktemp("model") / "small")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def server(files: dict[str, bytes]) -> Iterator[HubServer]:
    beside = {
        "README.md": b"# a model\n",
        "pytorch_model.bin": b"\x80",
        "onnx/model.safetensors": b"another",
        "modeling.py": b"raise SystemExit",
    }
    with HubServer() as server:
        server.repos["models"] = {
            "me/small": files | beside,
            "me/pickled": {"config.json": b"{}", "pytorch_model.bin": b"\x80"},
            "me/closed": files,
            "me/other": files,
            "me/cut": files | {"model.safetensors": LARGE},
            "me/stalled": files,
            "me/coded": files | beside,
            "me/sharded": _sharded(files),
        }
        server.gated = {"me/closed"}
        yield server


def _sharded(files: dict[str, bytes]) -> dict[str, bytes]:
    """The same weights under the name of a shard, and copies that nobody needs."""
    index = {"weight_map": {"model.norm.weight": "model-00001-of-00001.safetensors"}}
    weights = files["model.safetensors"]
    rest = {name: content for name, content in files.items() if name != "model.safetensors"}
    return rest | {
        "model.safetensors.index.json": json.dumps(index).encode(),
        "model-00001-of-00001.safetensors": weights,
        "consolidated.safetensors": b"the same in another layout",
    }


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def fresh(server: HubServer, home: Path) -> Iterator[ProcessPoolExecutor]:
    with child(server.url(""), home) as pool:
        yield pool


@pytest.fixture(autouse=True)
def forgotten(server: HubServer) -> Iterator[None]:
    server.requests.clear()
    server.script.clear()
    yield
    server.script.clear()


def ask(fresh: ProcessPoolExecutor, name: str, **given: Any) -> Any:
    return fresh.submit(fetch_model, name, **given).result(60)


def sent(server: HubServer, name: str) -> set[str]:
    start = f"/{name}/resolve/{COMMIT}/"
    return {path.removeprefix(start) for path in server.files_sent if path.startswith(start)}


# ---- fetched ---------------------------------------------------------------------------------


def test_only_what_a_trainer_may_load_is_fetched_with_its_bytes_told(
    fresh: ProcessPoolExecutor, server: HubServer, files: dict[str, bytes]
) -> None:
    folder, commit, notes = ask(fresh, "me/small")
    assert commit == COMMIT
    assert {path.name: path.read_bytes() for path in Path(folder).iterdir()} == files
    assert sent(server, "me/small") <= set(files)
    total = sum(len(content) for name, content in files.items() if name != "config.json")
    phases = [what for kind, what in notes if kind == "phase"]
    assert ("downloading the model", total, "bytes") in phases
    done = [what for kind, what in notes if kind == "done"]
    assert done == sorted(done)
    assert done[-1] == total


def test_a_second_time_nothing_is_fetched(fresh: ProcessPoolExecutor, server: HubServer) -> None:
    first = ask(fresh, "me/small")
    server.requests.clear()
    assert ask(fresh, "me/small")[:2] == first[:2]
    assert sent(server, "me/small") == set()


def test_shards_are_those_of_the_index(fresh: ProcessPoolExecutor) -> None:
    folder, _, _ = ask(fresh, "me/sharded")
    names = {path.name for path in Path(folder).iterdir()}
    assert "model-00001-of-00001.safetensors" in names
    assert "consolidated.safetensors" not in names


def test_code_comes_only_when_it_is_asked_for(fresh: ProcessPoolExecutor) -> None:
    folder, _, _ = ask(fresh, "me/coded")
    assert not list(Path(folder).glob("*.py"))
    ask(fresh, "me/coded", with_code=True)
    assert [path.name for path in Path(folder).glob("*.py")] == ["modeling.py"]


def test_f56_a_download_that_is_cut_goes_on_where_it_was(
    fresh: ProcessPoolExecutor, server: HubServer, files: dict[str, bytes]
) -> None:
    small = [name for name in files if name != "model.safetensors"]
    server.script = [*(Fault() for _ in small), Fault("short", CHUNK_BYTES + 700_000)]
    folder, _, notes = ask(fresh, "me/cut")
    assert Path(folder, "model.safetensors").read_bytes() == LARGE
    ranges = [headers.get("Range") for path, headers in server.requests if "resolve" in path]
    assert f"bytes={CHUNK_BYTES}-" in ranges
    done = [what for kind, what in notes if kind == "done"]
    assert done == sorted(done)


def test_f56_a_download_that_stalls_ends_with_its_cause(
    fresh: ProcessPoolExecutor, server: HubServer, files: dict[str, bytes]
) -> None:
    server.script = [Fault(), Fault("stall")]
    retry = RetryPolicy(max_attempts=2, stall_timeout_s=0.7, retry_stalls=False)
    answer = ask(fresh, "me/stalled", download_retry=retry)
    assert isinstance(answer, RefusalMessage)
    assert answer.code == Exit.COME_BACK
    assert answer.findings[0].what == "cannot fetch me/stalled: no data for 0.7 s"


# ---- refused ---------------------------------------------------------------------------------


def refused(answer: Any) -> Any:
    assert isinstance(answer, RefusalMessage)
    (finding,) = answer.findings
    assert finding.have
    assert finding.need
    assert finding.remedies
    return answer.code, finding


def test_a_model_that_is_not_there_is_refused_with_those_of_a_like_name(
    fresh: ProcessPoolExecutor,
) -> None:
    code, finding = refused(ask(fresh, "you/small"))
    assert (code, finding.what) == (Exit.USAGE, "the model you/small was not found on the Hub")
    assert finding.remedies[0].do == "--model me/small"


def test_a_model_that_is_not_open_says_where_to_ask(fresh: ProcessPoolExecutor) -> None:
    code, finding = refused(ask(fresh, "me/closed"))
    assert (code, finding.what) == (
        Exit.USAGE,
        "permission denied: the model me/closed is gated or private",
    )
    assert finding.remedies[0].do == "hf auth login"


def test_pickles_are_not_fetched(fresh: ProcessPoolExecutor, server: HubServer) -> None:
    code, finding = refused(ask(fresh, "me/pickled"))
    assert code == Exit.USAGE
    assert "can run code" in finding.have
    assert "pytorch_model.bin" not in sent(server, "me/pickled")


def test_what_does_not_fit_on_the_disk_is_refused_before_it_is_fetched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=999))
    listed = download._Listing(tmp_path / "snapshots" / COMMIT, COMMIT, {})
    download._check_disk("me/small", 999, listed)
    with pytest.raises(MachineError, match="does not fit on this disk") as refusal:
        download._check_disk("me/small", 1000, listed)
    assert refusal.value.have == f"999 B free in {tmp_path}"


def test_adapters_are_fetched_as_far_as_it_takes_to_refuse_them() -> None:
    files = {"config.json": 1, "adapter_config.json": 2, "adapter_model.safetensors": 3}
    assert list(download._wanted_files("me/lora", files, with_code=False)) == [
        "adapter_config.json",
        "config.json",
    ]


# ---- offline ---------------------------------------------------------------------------------


@pytest.mark.parametrize("offline", ["HF_HUB_OFFLINE", ""], ids=["asked for", "no way there"])
def test_without_a_hub_the_cache_will_do_when_it_is_whole(
    fresh: ProcessPoolExecutor, home: Path, tmp_path: Path, offline: str
) -> None:
    folder, commit, _ = ask(fresh, "me/small")
    ask(fresh, "me/other")
    copy = shutil.copytree(home, tmp_path / "home", symlinks=True)
    (weights,) = copy.rglob("*me--other/snapshots/*/model.safetensors")
    weights.unlink()
    with child("http://127.0.0.1:9", copy, **({offline: "1"} if offline else {})) as pool:
        found = ask(pool, "me/small", lookup_retry=RetryPolicy(max_attempts=1))
        assert (Path(found[0]).name, found[1]) == (Path(folder).name, commit)
        code, finding = refused(ask(pool, "me/other", lookup_retry=RetryPolicy(max_attempts=1)))
        assert (code, finding.what.split(" is not ")[0]) == (Exit.COME_BACK, "the model me/other")
        assert "the cache is incomplete" in finding.have


# ---- into the plan ---------------------------------------------------------------------------


def test_the_plan_starts_from_the_cached_folder_and_keeps_the_commit(
    fresh: ProcessPoolExecutor,
) -> None:
    start = fresh.submit(find_model, "me/small").result(60)
    assert (start.source, start.name, start.commit) == ("folder", "me/small", COMMIT)
    assert Path(start.path, "model.safetensors").is_file()


def test_f62_a_token_is_in_nothing_that_is_told(server: HubServer, tmp_path: Path) -> None:
    server.script = [Fault("500")] * 3
    with child(server.url(""), tmp_path, HF_TOKEN="hf_canary") as pool:
        answers = [ask(pool, name, download_retry=QUICK) for name in ("me/closed", "you/small")]
    assert "canary" not in repr(answers)
    assert any("hf_canary" in str(headers) for _, headers in server.requests)
