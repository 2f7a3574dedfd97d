"""A command that a launcher started several times is refused, not run in one folder by all."""

import pytest

from headway.base.errors import Cause, UsageError
from headway.base.host.launcher import LaunchedPlace, check_started_once, launched_place

ARGV = ("/usr/bin/headway", "train", "my notes.txt")


@pytest.mark.parametrize(
    ("launcher", "environment"),
    [
        ("torchrun", {"WORLD_SIZE": "2", "RANK": "1"}),
        ("srun", {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0"}),
        ("mpirun", {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"}),
        ("mpiexec", {"PMI_SIZE": "2", "PMI_RANK": "0"}),
    ],
)
def test_each_launcher_is_known(launcher: str, environment: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=f"{launcher} started this command 2 times") as refused:
        check_started_once(environment, ARGV)
    assert refused.value.cause is Cause.CONTRADICTION
    assert refused.value.remedies[0].do == "headway train 'my notes.txt' --nproc 2"


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WORLD_SIZE": "1", "RANK": "0"},
        {"WORLD_SIZE": "2"},  # left over in a shell
        {"SLURM_NTASKS": "4", "SLURM_PROCID": "0"},  # a batch script
        {"WORLD_SIZE": "many", "RANK": "0"},
    ],
)
def test_one_process_is_one_process(environment: dict[str, str]) -> None:
    check_started_once(environment, ARGV)


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        (
            {
                "RANK": "5",
                "WORLD_SIZE": "8",
                "LOCAL_RANK": "1",
                "LOCAL_WORLD_SIZE": "4",
                "MASTER_ADDR": "node-0",
                "MASTER_PORT": "1234",
            },
            LaunchedPlace("torchrun", 5, 8, 1, 4, "node-0", 1234),
        ),
        (
            {
                "SLURM_STEP_NUM_TASKS": "4",
                "SLURM_PROCID": "3",
                "SLURM_LOCALID": "1",
                "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
                "MASTER_ADDR": "node-0",
            },
            LaunchedPlace("srun", 3, 4, 1, 2, "node-0", 29500),
        ),
        (
            {"RANK": "0", "WORLD_SIZE": "1"},
            LaunchedPlace("torchrun", 0, 1, 0, 1, "127.0.0.1", 29500),
        ),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, None),
        ({}, None),
    ],
)
def test_the_place_is_what_the_launcher_says(
    environment: dict[str, str], place: LaunchedPlace | None
) -> None:
    assert launched_place(environment) == place


def test_machines_are_counted() -> None:
    assert LaunchedPlace("torchrun", 0, 8, 0, 4, "a", 1).machines == 2
    assert LaunchedPlace("torchrun", 0, 2, 0, 4, "a", 1).machines == 1


def test_a_launcher_that_says_not_where_to_meet_is_refused() -> None:
    with pytest.raises(UsageError, match="do not know where to meet") as refused:
        launched_place({"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3"})
    assert "scontrol show hostnames" in refused.value.remedies[0].do
