"""GPUs: what nvidia-smi tells, and nothing where it does not answer."""

from pathlib import Path

import pytest

from headway.diagnose.evidence.facts import GpuFacts
from headway.diagnose.evidence.gpus import parse_gpus, read_gpus

GPUS = (
    "0, NVIDIA H200, GPU-aa, 97, 1024, 143771\n1, NVIDIA GH200 480GB, GPU-bb, [N/A], [N/A], 97871\n"
)
PROCESSES = "GPU-aa, 4242\nGPU-aa, 4243\nGPU-cc, [N/A]\n"


def driver(folder: Path, script: str) -> str:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return str(folder)


def test_cards_and_who_uses_them() -> None:
    assert parse_gpus(GPUS, PROCESSES) == (
        GpuFacts(0, "NVIDIA H200", 0.97, 1 << 30, 143771 << 20, (4242, 4243)),
        GpuFacts(1, "NVIDIA GH200 480GB", 0.0, 0, 97871 << 20),
    )


def test_the_driver_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gpus").write_text(GPUS)
    script = f'case $1 in --query-gpu*) while read l; do echo "$l"; done < {tmp_path}/gpus;; esac'
    monkeypatch.setenv("PATH", driver(tmp_path, script))
    assert [gpu.index for gpu in read_gpus(30)] == [0, 1]


@pytest.mark.parametrize("script", ["exit 9", "echo Failed to initialize NVML >&2; exit 255"])
def test_a_driver_that_fails_has_no_cards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setenv("PATH", driver(tmp_path, script))
    assert read_gpus(30) == ()


def test_a_driver_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = driver(tmp_path, "exec /bin/sleep 60")
    monkeypatch.setenv("PATH", folder)
    assert read_gpus(0.05) == ()


def test_without_a_driver_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read_gpus(1) == ()
