"""The JobSet: only fields that Kubernetes and JobSet know, and what they mean for our exit codes.

The fields of Kubernetes' own objects come from its published API (lightkube-models is generated
from it). Those of JobSet are listed here, as of v1alpha2: it publishes no package.
"""

from typing import Any

import pytest
import yaml
from tests.examples.commands import EXAMPLES, WORKER, plan_of
from tests.examples.kubernetes import model, problems

from headway.base.errors import Exit

JobTemplateSpec = model("batch_v1", "JobTemplateSpec")
ObjectMeta = model("meta_v1", "ObjectMeta")

ACTIONS = {
    "FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts", "RestartJob",
    "RestartJobAndIgnoreMaxRestarts",
}  # fmt: skip
# A type; a list of one; a mapping by key, "!" after those that must be there; a set of values.
JOBSET: dict[str, Any] = {
    "apiVersion!": {"jobset.x-k8s.io/v1alpha2"},
    "kind!": {"JobSet"},
    "metadata!": ObjectMeta,
    "spec!": {
        "failurePolicy": {
            "maxRestarts": int,
            "restartStrategy": {"Recreate", "BlockingRecreate", "InPlaceRestart"},
            "rules": [
                {
                    "name!": str,
                    "action!": ACTIONS,
                    "onJobFailureReasons": [str],
                    "onJobFailureMessagePatterns": [str],
                    "targetReplicatedJobs": [str],
                }
            ],
        },
        "successPolicy": {"operator!": {"All", "Any"}, "targetReplicatedJobs": [str]},
        "network": {
            "enableDNSHostnames": bool,
            "subdomain": str,
            "publishNotReadyAddresses": bool,
        },
        "suspend": bool,
        "ttlSecondsAfterFinished": int,
        "replicatedJobs": [
            {
                "name!": str,
                "replicas": int,
                "groupName": str,
                "template!": JobTemplateSpec,
                "dependsOn": [{"name!": str, "status!": {"Ready", "Complete"}}],
            }
        ],
    },
}


@pytest.fixture
def jobset() -> Any:
    return yaml.safe_load((EXAMPLES / "jobset.yaml").read_text())


def job(jobset: Any, name: str) -> Any:
    (found,) = [one for one in jobset["spec"]["replicatedJobs"] if one["name"] == name]
    return found


def pods(jobset: Any, name: str) -> Any:
    return job(jobset, name)["template"]["spec"]


def container(jobset: Any, name: str) -> Any:
    (found,) = pods(jobset, name)["template"]["spec"]["containers"]
    return found


def test_every_field_is_one_that_kubernetes_or_jobset_knows(jobset: Any) -> None:
    assert problems(jobset, JOBSET) == []


@pytest.mark.parametrize(
    ("where", "name", "value"),
    [
        (lambda it: it["spec"]["failurePolicy"], "maxRestart", 3),
        (lambda it: it["spec"]["failurePolicy"]["rules"][0], "action", "Fail"),
        (lambda it: pods(it, "train"), "backoffLimit", "0"),
        (lambda it: pods(it, "train")["podFailurePolicy"]["rules"][0], "onExitCode", {}),
        (lambda it: container(it, "train")["env"][0], "name", None),
        (lambda it: container(it, "train")["resources"], "limits", "8 cores"),
        (lambda it: container(it, "train"), "volumeMount", []),
    ],
)
def test_a_misspelled_field_would_be_found(jobset: Any, where: Any, name: str, value: Any) -> None:
    where(jobset)[name] = value
    assert problems(jobset, JOBSET) != []


def test_what_cannot_work_fails_and_everything_else_is_started_again(jobset: Any) -> None:
    for name in ("plan", "train"):
        spec = pods(jobset, name)
        (rule,) = spec["podFailurePolicy"]["rules"]
        assert rule["action"] == "FailJob"
        assert rule["onExitCodes"]["operator"] == "In"
        assert set(rule["onExitCodes"]["values"]) == {Exit.USAGE, Exit.DATA, Exit.BROKEN}
        assert spec["backoffLimit"] == 0  # any other end of a pod is the end of all of them ...
        assert spec["template"]["spec"]["restartPolicy"] == "Never"  # as the policy requires
    policy = jobset["spec"]["failurePolicy"]
    (rule,) = policy["rules"]  # ... and without a rule for it, JobSet starts all of them again
    assert (rule["action"], rule["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy"])
    assert policy["maxRestarts"] > 0
    assert policy["restartStrategy"] == "BlockingRecreate"


def test_the_workers_are_as_many_as_were_planned_and_find_the_first(jobset: Any) -> None:
    run, sources, settings = plan_of(container(jobset, "plan")["command"])
    spec, worker = pods(jobset, "train"), container(jobset, "train")
    assert worker["command"] == ["python", "-m", WORKER, run]
    variables = {one["name"]: one.get("value") for one in worker["env"]}
    assert settings.nproc == int(variables["WORLD_SIZE"]) == spec["completions"]
    assert spec["parallelism"] == spec["completions"]
    assert spec["completionMode"] == "Indexed"  # each pod has its number, which is its rank
    assert int(worker["resources"]["requests"]["cpu"]) == settings.threads
    name = jobset["metadata"]["name"]
    assert variables["MASTER_ADDR"] == f"{name}-train-0-0.{name}"
    assert jobset["spec"]["network"]["enableDNSHostnames"]
    assert job(jobset, "train")["dependsOn"] == [{"name": "plan", "status": "Complete"}]
    mounted = {one["mountPath"] for one in worker["volumeMounts"]}
    assert {run.split("/")[1], sources[0].strip("/")} == {path.strip("/") for path in mounted}


def test_kubernetes_waits_longer_than_the_run_may_take_to_save(jobset: Any) -> None:
    _, _, settings = plan_of(container(jobset, "plan")["command"])
    pod = pods(jobset, "train")["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > settings.grace_s
