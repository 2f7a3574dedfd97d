from pathlib import Path

import pytest

from headway.diagnose.evidence.kernel.worker_rank import worker_rank


def environment(folder: Path, name: str, *variables: str) -> Path:
    (folder / name).mkdir()
    (folder / name / "environ").write_text("\0".join(("HOME=/root", *variables, "")))
    return folder / name


@pytest.mark.parametrize(
    ("variables", "role"),
    [
        (("RANK=1", "WORLD_SIZE=4"), "worker 1 of 4"),
        (("OMPI_COMM_WORLD_RANK=0", "OMPI_COMM_WORLD_SIZE=2"), "worker 0 of 2"),
        (("SLURM_PROCID=7", "SLURM_NTASKS=8"), "worker 7 of 8"),
        (("RANK=0", "WORLD_SIZE=1"), ""),
        (("RANK=first", "WORLD_SIZE=4"), ""),
        (("RANK=0",), ""),
        ((), ""),
    ],
)
def test_the_environment_tells_the_rank(
    variables: tuple[str, ...], role: str, tmp_path: Path
) -> None:
    parent = environment(tmp_path, "parent")
    assert worker_rank(environment(tmp_path, "child", *variables), parent) == role


def test_what_a_worker_starts_is_no_worker(tmp_path: Path) -> None:
    worker = environment(tmp_path, "worker", "RANK=1", "WORLD_SIZE=4")
    loader = environment(tmp_path, "loader", "RANK=1", "WORLD_SIZE=4")
    assert worker_rank(loader, worker) == ""
    assert worker_rank(tmp_path / "gone", worker) == ""
