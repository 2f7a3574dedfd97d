"""The Compose file: by the published schema, and with commands that the programs accept."""

import importlib.resources
import json
from typing import Any

import jsonschema.validators
import pytest
import yaml
from tests.examples.commands import EXAMPLES, plan_of, seconds, torchrun_of, words_of

FILE = EXAMPLES / "compose.yaml"
WORKERS = ("first", "second")


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load(FILE.read_text())


def problems(document: Any) -> list[str]:
    """Where a document does not follow Compose's published schema."""
    folder = importlib.resources.files("check_jsonschema") / "builtin_schemas" / "vendor"
    schema = json.loads((folder / "compose-spec.json").read_text())
    kind = jsonschema.validators.validator_for(schema)
    return [error.message for error in kind(schema).iter_errors(document)]


def test_it_follows_the_schema_of_compose(compose: Any) -> None:
    assert problems(compose) == []
    misspelled = compose["services"]["first"] | {"stop_grace": "60s"}
    assert problems({"services": {"first": misspelled}}) != []  # it does look


def test_the_workers_are_as_many_as_were_planned(compose: Any) -> None:
    services = compose["services"]
    run, sources, settings = plan_of(services["plan"]["command"])
    started = [torchrun_of(services[name]["command"]) for name in WORKERS]
    assert [int(one.nnodes) for one in started] == [len(WORKERS)] * 2
    assert sum(int(one.nproc_per_node) for one in started) == settings.nproc
    assert [one.training_script_args for one in started] == [[run]] * 2
    assert sources == ("/data",)


def test_all_meet_at_the_first_and_each_is_itself(compose: Any) -> None:
    services = compose["services"]
    for name in WORKERS:
        options = torchrun_of(services[name]["command"])
        host, _, port = options.rdzv_endpoint.partition(":")
        assert (host, services[host]["hostname"]) == ("first", "first")
        assert port.isdigit()
        assert options.rdzv_conf == f"is_host={str(name == host).lower()}"
        assert options.local_addr == services[name]["hostname"] == name
        assert services[name]["depends_on"]["plan"]["condition"].endswith("successfully")


def test_each_limit_leaves_time_for_the_one_inside_it(compose: Any) -> None:
    services = compose["services"]
    _, _, settings = plan_of(services["plan"]["command"])
    for name in WORKERS:
        options = torchrun_of(services[name]["command"])
        stop_s = seconds(services[name]["stop_grace_period"])
        assert settings.grace_s < options.shutdown_timeout < stop_s


def test_all_share_the_run_and_the_tokens(compose: Any) -> None:
    services = compose["services"]
    run, _, _ = plan_of(services["plan"]["command"])
    assert run.startswith("/shared/")
    for name in ("plan", *WORKERS):
        assert "shared:/shared" in services[name]["volumes"]
    dockerfile = EXAMPLES / services["plan"]["build"]["dockerfile"].removeprefix("examples/")
    assert "XDG_CACHE_HOME=/shared/" in dockerfile.read_text()
    assert words_of(services["status"]["command"])[2] == run
