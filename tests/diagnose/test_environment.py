"""Environment: values of an allow list only, names of everything else."""

from pathlib import Path

from headway.diagnose.environment import environment_text


def write(proc: Path, *pairs: str) -> None:
    (proc / "10").mkdir(exist_ok=True)
    (proc / "10" / "environ").write_text("\0".join(pairs) + "\0")


def test_values_of_an_allow_list_alone(tmp_path: Path) -> None:
    write(
        tmp_path,
        "OMP_NUM_THREADS=4",
        "HF_TOKEN=planted1",
        "MY_DATA=planted2",
        "NCCL_DEBUG=INFO",
        "TORCH_API_KEY=planted3",
        "PYTHONPATH=/a:https://u:planted4@host/x",
    )
    told = environment_text(10, tmp_path)
    assert "planted" not in told
    assert "OMP_NUM_THREADS=4\n" in told
    assert "NCCL_DEBUG=INFO\n" in told
    assert told.endswith("also set, values left out: HF_TOKEN, MY_DATA, TORCH_API_KEY\n")


def test_a_value_with_a_line_break_does_not_look_like_another_variable(tmp_path: Path) -> None:
    write(tmp_path, "EVIL=a\nLANG=planted")
    assert environment_text(10, tmp_path) == "also set, values left out: EVIL\n"


def test_an_environment_that_cannot_be_read(tmp_path: Path) -> None:
    assert environment_text(10, tmp_path) == "its environment cannot be read\n"
