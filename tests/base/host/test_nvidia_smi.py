"""The free memory of the GPU that CUDA would use; unknown rather than wrong."""

from pathlib import Path

import pytest

from headway.base.host.nvidia_smi import CUDA_BYTES, free_gpu_bytes

TWO = "0, GPU-aa, 1000\n1, GPU-bb, 24000\n"


def smi(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(
    ("visible", "mib"), [(None, 1000), ("0", 1000), ("1,0", 24000), ("GPU-b", 24000), ("7", 0)]
)
def test_of_the_gpu_that_is_visible_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, mib: int
) -> None:
    smi(tmp_path, monkeypatch, f"printf '{TWO}'")
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert free_gpu_bytes() == max(mib * 2**20 - CUDA_BYTES, 0)


@pytest.mark.parametrize("script", ["exit 9", "echo '0, GPU-aa, [N/A]'", "echo what", "sleep 9"])
def test_unknown_where_the_driver_does_not_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    smi(tmp_path, monkeypatch, script)
    assert free_gpu_bytes(timeout_s=0.2) == 0


def test_unknown_without_a_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert free_gpu_bytes() == 0
