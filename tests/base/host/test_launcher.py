"""A command that a launcher started several times is refused, not run in one folder by all."""

import pytest

from headway.base.errors import Cause, UsageError
from headway.base.host.launcher import check_started_once

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
