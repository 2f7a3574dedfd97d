"""The inbox on Kubernetes: known fields, one pod at a time, and a volume for the inbox alone."""

from typing import Any

import pytest
import yaml
from tests.examples.commands import EXAMPLES, inbox_of
from tests.examples.kubernetes import model, problems

KINDS = {
    "PersistentVolumeClaim": model("core_v1", "PersistentVolumeClaim"),
    "Deployment": model("apps_v1", "Deployment"),
}


@pytest.fixture
def objects() -> dict[str, Any]:
    text = (EXAMPLES / "inbox-kubernetes.yaml").read_text()
    return {one["kind"]: one for one in yaml.safe_load_all(text)}


@pytest.fixture
def spec(objects: dict[str, Any]) -> Any:
    return objects["Deployment"]["spec"]


def test_every_field_is_one_that_kubernetes_knows(objects: dict[str, Any]) -> None:
    assert set(objects) == set(KINDS)
    for name, one in objects.items():
        assert problems(one, KINDS[name]) == []
    spec = objects["Deployment"]["spec"]["template"]["spec"]
    spec["containers"][0]["securityContext"]["readOnlyRoot"] = True
    assert problems(objects["Deployment"], KINDS["Deployment"]) != []  # it does look


def test_there_is_one_pod_at_a_time_and_it_is_found(spec: Any) -> None:
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "Recreate"}
    assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]


def test_its_command_is_one_that_starts_and_may_save(spec: Any) -> None:
    pod = spec["template"]["spec"]
    folder, settings, options = inbox_of(pod["containers"][0]["command"])
    assert folder == "/inbox"
    assert pod["terminationGracePeriodSeconds"] > settings.grace_s
    assert options.disk_budget


def test_only_the_volume_and_memory_are_written_to(objects: dict[str, Any], spec: Any) -> None:
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod["securityContext"]["runAsNonRoot"] is True
    volumes = {one["name"]: one for one in pod["volumes"]}
    assert {one["name"] for one in container["volumeMounts"]} == set(volumes)
    claim = volumes["inbox"]["persistentVolumeClaim"]["claimName"]
    assert claim == objects["PersistentVolumeClaim"]["metadata"]["name"]
    assert "emptyDir" in volumes["tmp"]
    assert volumes["shm"]["emptyDir"]["medium"] == "Memory"


def test_its_health_is_asked_where_it_answers(spec: Any) -> None:
    (container,) = spec["template"]["spec"]["containers"]
    (port,) = [word.partition("=")[2] for word in container["command"] if "--metrics-port" in word]
    program, flag, code = container["livenessProbe"]["exec"]["command"]
    assert (program, flag) == ("python", "-c")
    compile(code, "probe", "exec")
    assert f"http://127.0.0.1:{port}/healthz" in code
