"""llm.c's train_gpt2 on a CPU, in float32 as it is written: its own printed times of its steps.

Usage:
    python bench/peers/llmc.py FOLDER RESULT --steps N --batch ROWS

Its main fixes the batch, the length and how often it looks at held-out text: these three are set
in a copy of the file and it is built by its own Makefile. After the last wanted step it is ended.
"""

import argparse
import array
import json
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clock import Clock

CLONE = Path(__file__).resolve().parents[2] / "build" / "peers" / "llm.c"
HEADER = 256  # int32 values before the content of each of its files
STEP = re.compile(r"step \d+: train loss ([\d.]+|-?nan) \(took ([\d.]+) ms\)")


def main() -> None:
    """Build, write its inputs, train, write what happened."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True, help="rows of a step")
    asked = parser.parse_args()
    plan = json.loads((asked.folder / "plan.json").read_text())
    length = plan["data"]["max_length"]
    place = asked.result.parent / "llm.c"
    shutil.copytree(CLONE, place, ignore=shutil.ignore_patterns(".git"))
    set_variables(place / "train_gpt2.c", B=asked.batch, T=length, val_num_batches=1)
    subprocess.run(["make", "train_gpt2"], cwd=place, check=True, capture_output=True)
    write_weights(place / "gpt2_124M.bin", plan["model"]["config"], length)
    data = place / "dev" / "data" / "tinyshakespeare"
    data.mkdir(parents=True, exist_ok=True)
    for part in ("train", "val"):
        _write_tokens(data / f"tiny_shakespeare_{part}.bin", asked.folder / "tokens.bin")
    clock, end_s = Clock(), 0.0
    for loss, milliseconds in _steps(place, asked.steps):
        end_s += milliseconds / 1000
        clock.saw(asked.batch * length, asked.batch * length, loss)
        clock.step_ended_at(end_s)
    clock.write(asked.result)


def set_variables(source: Path, **values: int) -> None:
    """Set variables of its main."""
    text = source.read_text()
    for name, value in values.items():
        text, found = re.subn(rf"\bint {name} = \d+;", f"int {name} = {value};", text)
        assert found == 1, f"train_gpt2.c sets {name} {found} times"
    source.write_text(text)


def write_weights(path: Path, shape: dict[str, Any], length: int) -> None:
    """A model as wide and deep as the plan's, in its checkpoint's format: version 3, float32."""
    width, layers = shape["hidden_size"], shape["num_hidden_layers"]
    vocab = shape["vocab_size"]
    header = [20240326, 3, length, vocab, layers, shape["num_attention_heads"], width, vocab]
    noise = array.array("f", (random.Random(0).gauss(0, 0.02) for _ in range(1 << 16)))
    zeros, ones = 0.0, 1.0
    sizes: list[tuple[int, float | None]] = [  # its 16 tensors; None: drawn
        (vocab * width, None), (length * width, None),
        (layers * width, ones), (layers * width, zeros),
        (layers * 3 * width * width, None), (layers * 3 * width, zeros),
        (layers * width * width, None), (layers * width, zeros),
        (layers * width, ones), (layers * width, zeros),
        (layers * 4 * width * width, None), (layers * 4 * width, zeros),
        (layers * 4 * width * width, None), (layers * width, zeros),
        (width, ones), (width, zeros),
    ]  # fmt: skip
    with path.open("wb") as file:
        file.write(_header(header))
        for size, value in sizes:
            some = noise if value is None else array.array("f", [value]) * len(noise)
            for begin in range(0, size, len(some)):
                file.write(some[: size - begin].tobytes())


def _write_tokens(path: Path, ids: Path) -> None:
    """Ids in the format of its data loader: version 1, 16 bits each."""
    content = ids.read_bytes()
    path.write_bytes(_header([20240520, 1, len(content) // 2]) + content)


def _header(values: list[int]) -> bytes:
    return array.array("i", values + [0] * (HEADER - len(values))).tobytes()


def _steps(place: Path, num: int) -> Iterator[tuple[float, float]]:
    """Loss and milliseconds of its first steps; then it is ended."""
    command = ["stdbuf", "-oL", "./train_gpt2"]
    with subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = (STEP.match(line) for line in process.stdout)
        for _, step in zip(range(num), filter(None, told), strict=False):
            yield float(step[1]), float(step[2])
        process.kill()


if __name__ == "__main__":
    main()
