"""What a GGUF file costs: seconds, memory, and how close to the disk, at 1.1 billion weights.

    python bench/export_gguf.py                        F16, of random bf16 weights
    python bench/export_gguf.py --quantize q8_0 --verify
    python bench/export_gguf.py --converter DIR --tokenizer MODEL
                                                       beside llama.cpp's converter in DIR, which
                                                       needs sentencepiece and a known tokenizer

Each is a fresh process, turn by turn; its time includes starting Python and importing torch, and
ends when the file is on the disk (fsync). The disk's speed is that of writing as many bytes in
pieces of 4 MB, and of fsync.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import report
from trials import HERE

SHAPE = {
    "model_type": "llama",
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 22,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}
ROWS = 32000
PIECE = 1 << 22

EXPORT = """
import os, sys, time, resource
from pathlib import Path
begin = time.monotonic()
from headway.base.pulse import Pulse
from headway.export.request import ExportOptions, ExportRequest
from headway.export.source import open_source
from headway.export.targets.gguf import GgufTarget
folder, out, quantize, verify = sys.argv[1:]
options = ExportOptions("gguf", quantize=quantize, name="bench")
scratch = Path(out) / "scratch"; scratch.mkdir()
imported = time.monotonic()
source = open_source(ExportRequest(folder, out, options), scratch, Pulse())
opened = time.monotonic()
(name,) = GgufTarget().write(source, options, Path(out), Pulse()).files
with open(Path(out) / name, "rb") as file: os.fsync(file.fileno())
written = time.monotonic()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
checks = []
if verify == "yes":
    found = GgufTarget().verify(source, options, Path(out), Pulse())
    assert found.failure is None, found.failure
    checks = [[one.what, one.measured] for one in found.checks]
import json
print(json.dumps({"importing_s": imported - begin, "hashing_s": opened - imported,
    "writing_s": written - opened, "peak_bytes": peak,
    "verifying_s": time.monotonic() - written, "checks": checks}))
"""


def main() -> None:
    """Measure, print, write a dated result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quantize", default="f16")
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--layers", type=int, default=SHAPE["num_hidden_layers"])
    parser.add_argument("--verify", action="store_true")
    parser.add_argument("--converter", type=Path)
    parser.add_argument("--tokenizer", type=Path, help="folder; the converter knows few of them")
    parser.add_argument("--write", action="store_true", help="to results/, for a quiet machine")
    asked = parser.parse_args()
    load = os.getloadavg()
    trials: dict[str, list[dict[str, Any]]] = {"disk": [], "headway": [], "llama.cpp": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "model"
        # In a process of its own: memory that this one took would count as its children's peak.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            num_weights = pool.submit(make_model, folder, asked.layers, asked.tokenizer).result()
        for _ in range(asked.trials):
            trials["headway"].append(headway(folder, Path(name), asked.quantize, asked.verify))
            trials["disk"].append(disk(Path(name), trials["headway"][-1]["file_bytes"]))
            if asked.converter:
                trials["llama.cpp"].append(converter(asked, folder, Path(name)))
            print(json.dumps({key: one[-1] for key, one in trials.items() if one}), flush=True)
    told = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "weights": num_weights,
        "quantize": asked.quantize,
        "machine": report.machine(),
        "versions": report.versions(),
        "load_before": load,
        "medians": {key: medians(one) for key, one in trials.items() if one},
        "trials": trials,
    }
    print(json.dumps(told["medians"], indent=2))
    if asked.write:
        path = HERE / "results" / f"{told['at'][:10]}-export-gguf-{asked.quantize}.json"
        path.write_text(json.dumps(told, indent=2) + "\n")


def make_model(folder: Path, layers: int, tokenizer: Path | None) -> int:
    """A folder of random bf16 weights, and a tokenizer; returns how many weights."""
    import torch
    from safetensors.torch import save_file

    from headway.data.examples.chatml import CHATML
    from headway.data.examples.tokenizer import TURN_END, byte_level, load
    from headway.model.gguf.layout import tensor_layout

    folder.mkdir()
    words = byte_level().with_end_token(TURN_END).with_template(CHATML)
    words = load(tokenizer) if tokenizer else words
    words.save(folder)
    rows = max(ROWS, words.vocab_size)
    config = SHAPE | {"num_hidden_layers": layers, "vocab_size": rows, "head_dim": 64}
    config |= {"architectures": ["LlamaForCausalLM"]}
    config |= {"eos_token_id": words.end_id, "bos_token_id": None, "hidden_act": "silu"}
    (folder / "config.json").write_text(json.dumps(config))
    draws = torch.Generator().manual_seed(0)
    tensors = {}
    for target in tensor_layout(config).values():
        values = torch.empty(target.shape, dtype=torch.bfloat16)
        values.normal_(0.0, 0.02, generator=draws)
        tensors[target.name] = values + 1 if len(target.shape) == 1 else values
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return sum(one.numel() for one in tensors.values())


def headway(folder: Path, place: Path, quantize: str, verify: bool) -> dict[str, Any]:
    """One export in a fresh process."""
    with tempfile.TemporaryDirectory(dir=place) as out:
        command = [sys.executable, "-c", EXPORT, str(folder), out, quantize]
        begin = time.monotonic()
        done = subprocess.run([*command, "yes" if verify else "no"], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr)
        found = json.loads(done.stdout.strip().splitlines()[-1])
        found["process_s"] = time.monotonic() - begin
        found["file_bytes"] = next(Path(out).glob("*.gguf")).stat().st_size
        return found


def converter(asked: Any, folder: Path, place: Path) -> dict[str, Any]:
    """llama.cpp's own converter on the same folder."""
    out = place / "theirs.gguf"
    script = asked.converter / "convert_hf_to_gguf.py"
    command = [sys.executable, str(script), str(folder), "--outfile", str(out)]
    command += ["--outtype", asked.quantize]
    begin = time.monotonic()
    environment = os.environ | {"PYTHONPATH": str(asked.converter)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"the converter ended with {status}")
    with out.open("rb") as file:
        os.fsync(file.fileno())
    found = {"process_s": time.monotonic() - begin, "peak_bytes": usage.ru_maxrss * 1024}
    found["file_bytes"] = out.stat().st_size
    out.unlink()
    return found


def disk(place: Path, num_bytes: int) -> dict[str, Any]:
    """How long the disk takes to write as many bytes."""
    path, piece = place / "bytes", os.urandom(PIECE)
    begin = time.monotonic()
    with path.open("wb") as file:
        for _ in range(num_bytes // PIECE):
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    found = {"writing_s": time.monotonic() - begin, "file_bytes": num_bytes // PIECE * PIECE}
    path.unlink()
    return found


def medians(trials: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The median of each figure."""
    names = [name for name, value in trials[0].items() if isinstance(value, int | float)]
    return {name: statistics.median(one[name] for one in trials) for name in names}


if __name__ == "__main__":
    main()
