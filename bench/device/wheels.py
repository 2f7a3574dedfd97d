"""Wheels for a machine without a network: FOLDER gets what requirements/gpu.txt lists.

Usage:
    python wheels.py FOLDER [PYTHON]     for that version of Python, 3.12 if not given

Large wheels are packed again by LZMA, which Python's zipfile reads, and so pip: together they have
to stay below 60 MB.
"""

import subprocess
import sys
import zipfile
from pathlib import Path

PINS = Path(__file__).resolve().parents[2] / "requirements" / "gpu.txt"
MOST_BYTES = 60_000_000
_LARGE_BYTES = 2_000_000
_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


def download(folder: Path, python: str) -> None:
    """The wheels as they are published; nothing of torch is among them."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:", "--python-version", python]
    command += [word for name in _PLATFORMS for word in ("--platform", name)]
    subprocess.run([*command, "--dest", str(folder), "--requirement", str(PINS)], check=True)


def repack(wheel: Path) -> None:
    """Compress a wheel better; what is in it stays the same."""
    smaller = wheel.with_suffix(".smaller")
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(smaller, "w", zipfile.ZIP_LZMA) as new:
        for entry in old.infolist():
            with old.open(entry) as content:
                entry.compress_type = zipfile.ZIP_LZMA
                new.writestr(entry, content.read(), zipfile.ZIP_LZMA)
    smaller.replace(wheel)


def main(folder: Path, python: str = "3.12") -> int:
    """Download, repack, add up; exit code 1 if they are too large."""
    folder.mkdir(parents=True, exist_ok=True)
    download(folder, python)
    wheels = sorted(folder.glob("*.whl"))
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as content:
            is_packed = content.infolist()[0].compress_type == zipfile.ZIP_LZMA
        if wheel.stat().st_size > _LARGE_BYTES and not is_packed:
            repack(wheel)
    total = sum(wheel.stat().st_size for wheel in wheels)
    print(f"{len(wheels)} wheels, {total / 1e6:.1f} MB, in {folder}")
    return int(total > MOST_BYTES)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
