"""F57, F58: weights come from anywhere; none run code, take memory or lead out of their folder."""

import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.helpers import save_model

from headway.base.errors import UsageError
from headway.model import safetensors_index as headers
from headway.model.safetensors_index import check_file, check_folder, read_header, weight_files

REPOSITORY = Path(__file__).parents[2]

# ---- pickles -----------------------------------------------------------------------------------

PICKLES = (
    "pytorch_model.bin",
    "adapter_model.bin",
    "model.pt",
    "optimizer.pt",
    "tokenizer.pkl",
    "training_args.bin",
)
# Every way by which a trainer reads a folder of somebody else's, in one child: torch imports once.
READ = """
import sys
from pathlib import Path

found = []
sys.addaudithook(lambda event, args: event == "pickle.find_class" and found.append(args))

import pickle
from tests.helpers import llama

from headway.base.errors import Refusal
from headway.base.pulse import Pulse
from headway.config.settings import Settings
from headway.data.examples import tokenizer
from headway.model.load import from_config, from_folder, load_tensors, with_adapter
from headway.training.weights.checkpoint import load_moments, load_weights
from headway.planning.model_source import find_model_source

small = from_config(llama(), 1)
ways = {
    "a model": lambda: from_folder(folder, trust_remote_code=False),
    "a model, code trusted": lambda: from_folder(folder, trust_remote_code=True),
    "a plan's model": lambda: find_model_source(Settings(model=str(folder)), 0, Pulse()),
    "a checkpoint's weights": lambda: load_weights(small, folder),
    "a checkpoint's moments": lambda: load_moments(folder),
    "one file": lambda: load_tensors(folder / "optimizer.safetensors"),
    "adapters": lambda: with_adapter(small, folder),
    "a tokenizer": lambda: tokenizer.load(folder / "tokenizer.pkl"),
    "a control": lambda: pickle.loads((folder / "model.pt").read_bytes()),  # always the last
}
for folder in map(Path, sys.argv[1:]):
    for name, way in ways.items():
        found.clear()
        try:
            way()
            print(f"{folder.name}, {name}: read, {len(found)} unpickled")
        except Refusal as refusal:
            parts = [line for line in str(refusal).splitlines() if line[:2] == "  "]
            assert {line[2:6] for line in parts} >= {"have", "need", "try "}, refusal
            print(f"{folder.name}, {name}: refused, {len(found)} unpickled")
"""


class Bomb:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return os.makedirs, (str(self.canary), 0o777, True)


def test_f57_nothing_is_unpickled_wherever_it_lies(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    bomb = pickle.dumps({"a": Bomb(canary)})
    adapter = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "target_modules": ["q_proj"]}
    alone = save_model(tmp_path / "alone")
    (alone / "model.safetensors").unlink()
    for name in (*PICKLES, "optimizer.safetensors"):
        (alone / name).write_bytes(bomb)
    renamed = shutil.copytree(alone, tmp_path / "renamed")
    adapters = shutil.copytree(alone, tmp_path / "adapters")
    (renamed / "model.safetensors").write_bytes(bomb)
    (adapters / "adapter_model.safetensors").write_bytes(bomb)
    for folder in (adapters, tmp_path / "alone"):
        (folder / "adapter_config.json").write_text(json.dumps(adapter))
    done = subprocess.run(
        [sys.executable, "-c", READ, alone, renamed, adapters],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, str(REPOSITORY)])},
    )
    assert done.returncode == 0, done.stderr
    told = done.stdout.splitlines()
    controls = [
        f"{name}, a control: read, 1 unpickled" for name in ("alone", "renamed", "adapters")
    ]
    assert [line for line in told if not line.endswith("refused, 0 unpickled")] == controls
    assert len(told) == 3 * READ.count(": lambda: ")
    assert canary.exists()  # by the control, last of each folder


def test_f57_the_way_out_that_is_offered_works(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    folder = save_model(tmp_path / "model")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(
        UsageError, match="has only pickled weights, which are not loaded"
    ) as refused:
        check_folder(folder)
    assert refused.value.have.startswith("pytorch_model.bin, which can run code")
    line = refused.value.remedies[0].do
    python = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(line, shell=True, check=True, env=os.environ | {"PATH": python})
    check_folder(folder)


# ---- headers -----------------------------------------------------------------------------------


def tensor(dtype: str = "F32", shape: Any = (2,), at: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(at)}


def safetensors(entries: object, *, length: int | None = None, body: int = 8) -> bytes:
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + bytes(body)


HOSTILE = {
    "longer than the file": safetensors({}, length=2**63, body=0),
    "a little longer": safetensors({"a": tensor()}, length=200),
    "beyond the file": safetensors({"a": tensor(shape=(4,), at=(0, 16))}),
    "far beyond": safetensors({"a": tensor(shape=(2**61,), at=(0, 2**63))}),
    "backwards": safetensors({"a": tensor(shape=(0,), at=(8, 0))}),
    "negative": safetensors({"a": tensor(at=(-8, 0))}),
    "a gap": safetensors({"a": tensor(shape=(1,), at=(4, 8))}),
    "bytes to spare": safetensors({"a": tensor(shape=(1,), at=(0, 4))}),
    "overlap": safetensors({"a": tensor(), "b": tensor()}),
    "an unknown type": safetensors({"a": tensor(dtype="F33")}),
    "another type": safetensors({"a": tensor(dtype="F64")}),
    "another shape": safetensors({"a": tensor(shape=(3,))}),
    "a negative shape": safetensors({"a": tensor(shape=(-1, -2))}),
    "a shape of 10**6 sizes": safetensors({"a": tensor(shape=[2**60] * 10**6)}),
    "10**5 brackets": safetensors(b"[" * 10**5),
    "no JSON": safetensors(b"\xff\xfe" * 40),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_f58_a_header_that_does_not_fit_its_file_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "optimizer.safetensors"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(ValueError, match=r"optimizer\.safetensors: "):
        read_header(path)
    with pytest.raises(UsageError, match="are damaged"):
        check_file(path)


def test_f58_a_header_that_fits_is_believed(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    entries = {
        "b": tensor("BF16", (2, 1), (4, 8)),
        "a": tensor("F32", (), (0, 4)),
        "empty": tensor("I64", (0, 3), (8, 8)),
        "__metadata__": {"format": "pt"},
    }
    path.write_bytes(safetensors(entries))
    assert read_header(path) == {"a": ("F32", ()), "b": ("BF16", (2, 1)), "empty": ("I64", (0, 3))}


FUZZ = '''
import json, random, resource, struct, sys
from pathlib import Path
from safetensors import SafetensorError, safe_open
from headway.model.safetensors_index import read_header

def memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

draw, path = random.Random(58), Path(sys.argv[1])
big = (0, 1, -1, 7, 8, 2**31, 2**32 - 1, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**65, -2**63)
types = ("F32", "BF16", "I64", "BOOL", "F4", "F8_E4M3", "f32", "", "OBJECT", "F32" * 50)
junk = (None, True, [], {}, "x", 1.5, [[1]], {"a": 1})

def hostile():
    """A small file, right or with a few things in it changed."""
    body, entries, at = draw.randrange(0, 65), {}, 0
    for name in "abcd"[: draw.randrange(5)]:
        size = draw.choice((0, 4, 8, 16))
        entries[name] = {"dtype": "F32", "shape": [size // 4], "data_offsets": [at, at + size]}
        at += size
    body = at if draw.random() < 0.7 else body
    for _ in range(draw.choice((0, 1, 1, 2, 3))):
        if not entries:
            break
        one = entries[draw.choice(list(entries))]
        if not isinstance(one, dict) or not one:
            continue
        match draw.randrange(7):
            case 0: one["dtype"] = draw.choice(types)
            case 1: one["shape"] = [draw.choice(big) for _ in range(draw.randrange(4))]
            case 2: one["data_offsets"] = [draw.choice(big), draw.choice(big)]
            case 3: one[draw.choice(list(one))] = draw.choice(junk)
            case 4: del one[draw.choice(list(one))]
            case 5: entries[draw.choice("abcdxy")] = draw.choice((one, *junk))
            case 6: one["data_offsets"] = [draw.randrange(70), draw.randrange(70)]
    text = json.dumps(entries).encode()
    if draw.random() < 0.15:
        at = draw.randrange(len(text) + 1)
        text = text[:at] + bytes(draw.randrange(256) for _ in range(3)) + text[at + 3 :]
    length = draw.choice(big) % 2**64 if draw.random() < 0.1 else len(text)
    data = struct.pack("<Q", length) + text + bytes(body)
    return data[: draw.randrange(len(data) + 1)] if draw.random() < 0.1 else data

for _ in range(100):  # what the libraries take once
    path.write_bytes(hostile())
    try:
        read_header(path)
    except ValueError:
        pass
before, taken = memory(), 0
for number in range(10_000):
    path.write_bytes(hostile())
    try:
        tensors = read_header(path)
    except ValueError:
        continue
    taken += 1
    with safe_open(path, "numpy") as file:  # what we believe the library does not dispute
        assert set(file.keys()) == set(tensors), number
        assert all(file.get_slice(n).get_shape() == list(s) for n, (_, s) in tensors.items())
print(json.dumps({"taken": taken, "grown": memory() - before}))
'''


def test_f58_ten_thousand_hostile_headers_crash_nothing_and_take_no_memory() -> None:
    shared = Path("/dev/shm")  # ten thousand small files
    with tempfile.NamedTemporaryFile(dir=shared if shared.is_dir() else None) as file:
        done = subprocess.run(
            [sys.executable, "-c", FUZZ, file.name], capture_output=True, text=True
        )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert 1000 < found["taken"] < 7000  # of both kinds there are many
    assert found["grown"] < 50  # MB


# ---- indexes -----------------------------------------------------------------------------------


def sharded(folder: Path) -> Path:
    """A model in two files and an index."""
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(save_model(folder / "whole"))
    model.save_pretrained(folder / "shards", max_shard_size="20KB")
    return folder / "shards"


def named(folder: Path, name: object) -> None:
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["model.norm.weight"] = name
    path.write_text(json.dumps(index))


def test_shards_are_what_the_index_names(tmp_path: Path) -> None:
    folder = sharded(tmp_path)
    (folder / "model-of-another-time.safetensors").write_bytes(b"not loaded, not looked at")
    assert len(weight_files(folder)) >= 2
    assert headers.stored_tensors(folder) == headers.stored_tensors(tmp_path / "whole")
    check_folder(folder)


INDEXES: dict[str, Callable[[Path], object]] = {
    "up": lambda folder: named(folder, "../whole/model.safetensors"),
    "absolute": lambda folder: named(folder, str(folder.parent / "whole" / "model.safetensors")),
    "the folder": lambda folder: named(folder, ".."),
    "another kind": lambda folder: named(folder, "pytorch_model.bin"),
    "not there": lambda folder: named(folder, "model-00009-of-00009.safetensors"),
    "a number": lambda folder: named(folder, 3),
    "no JSON": lambda folder: (folder / "model.safetensors.index.json").write_text("{"),
    "a shard cut": lambda folder: os.truncate(weight_files(folder)[0], 900),
}


@pytest.mark.parametrize("name", INDEXES)
def test_f58_an_index_names_only_whole_files_beside_it(tmp_path: Path, name: str) -> None:
    from headway.model.load import from_folder

    folder = sharded(tmp_path)
    INDEXES[name](folder)
    with pytest.raises(UsageError, match="are damaged"):
        from_folder(folder, trust_remote_code=False)
