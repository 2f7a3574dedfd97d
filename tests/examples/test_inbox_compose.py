"""The inbox as a container: by Compose's schema, writing to the inbox alone."""

from typing import Any

import pytest
import yaml
from tests.examples.commands import EXAMPLES, inbox_of, seconds, words_of
from tests.examples.test_compose import problems


@pytest.fixture
def services() -> Any:
    return yaml.safe_load((EXAMPLES / "inbox-compose.yaml").read_text())["services"]


def test_it_follows_the_schema_of_compose(services: Any) -> None:
    assert problems({"services": services}) == []
    misspelled = services["inbox"] | {"readonly": True}
    assert problems({"services": {"inbox": misspelled}}) != []  # it does look


def test_the_inbox_is_all_that_is_written_to(services: Any) -> None:
    for service in services.values():
        folder = words_of(service["command"])[3]
        (volume,) = service["volumes"]
        assert volume.endswith(f"}}:{folder}")
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]


def test_its_command_is_one_that_starts(services: Any) -> None:
    folder, settings, options = inbox_of(services["inbox"]["command"])
    assert folder == "/inbox"
    assert settings.preset == "mini"
    assert options.disk_budget
    assert seconds(services["inbox"]["stop_grace_period"]) > settings.grace_s


def test_its_health_is_asked_where_it_answers(services: Any) -> None:
    command = words_of(services["inbox"]["command"])
    port = command[command.index("--metrics-port") + 1]
    kind, program, flag, code = services["inbox"]["healthcheck"]["test"]
    assert (kind, program, flag) == ("CMD", "python", "-c")
    compile(code, "healthcheck", "exec")
    assert f"http://127.0.0.1:{port}/healthz" in code
