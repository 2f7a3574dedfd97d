"""What every verb promises: help at once, no torch where none is needed, JSON by its schema."""

import json
from pathlib import Path

import jsonschema
import pytest
from tests.llama_8b import LLAMA_8B

from headway.supervise.live.runtime_folder import runtime_folder

from .conftest import LIMIT_S, Headway, until

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT / "docs" / "schemas"
TINY = ROOT / "tests" / "data" / "tiny.txt"
VERBS = [
    "demo", "plan", "train", "generate", "chat", "eval", "runs", "status", "logs", "stop",
    "diagnose", "doctor",
]  # fmt: skip


def schema(name: str) -> dict[str, object]:
    return json.loads((SCHEMAS / f"{name}.json").read_text())


def without_torch(headway: Headway) -> dict[str, str]:
    """An environment in which importing torch or transformers fails."""
    folder = headway.here / "no-torch"
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(
        "import sys\n"
        "class Barred:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'transformers', 'peft'):\n"
        "            raise ImportError(f'{name} is barred here')\n"
        "sys.meta_path.insert(0, Barred())\n"
        "real = sys.modules\n"
    )
    return {"PYTHONPATH": str(folder)}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Headway:
    """A folder in which the small text has been trained, as run tiny."""
    headway = Headway(tmp_path_factory.mktemp("trained"), cache)
    done = headway("train", TINY, "--max-steps", 2)
    assert done.code == 0, done.err
    return headway


def test_help_tells_every_verb_and_each_verb_its_options(headway: Headway) -> None:
    told = headway("--help")
    assert told.code == 0
    for verb in VERBS:
        assert f"\n  {verb} " in told.out
        page = headway(verb, "--help")
        assert page.code == 0
        assert page.out.startswith(f"usage: headway {verb}")
        assert (ROOT / "docs" / f"{verb}.md").exists(), f"docs/{verb}.md"
    assert all(len(line) <= 100 for line in told.out.splitlines())


def test_help_imports_nothing_heavy(headway: Headway) -> None:
    told = headway("--help", PYTHONPROFILEIMPORTTIME="1")
    assert told.code == 0
    imported = {line.rpartition("|")[2].strip() for line in told.err.splitlines()}
    assert "headway.commands.help" in imported
    heavy = {"numpy", "torch", "rich", "asyncio", "multiprocessing", "pyarrow", "tokenizers"}
    assert imported & heavy == set()


def test_a_second_plan_tokenizes_nothing(headway: Headway) -> None:
    store = Path(headway("plan", TINY, "--json").json["data"]["store"])
    before = {path: path.stat().st_mtime_ns for path in store.iterdir()}
    assert Path(headway("plan", TINY, "--json").json["data"]["store"]) == store
    assert {path: path.stat().st_mtime_ns for path in store.iterdir()} == before != {}


def test_plan_never_imports_torch(headway: Headway) -> None:
    told = headway("plan", TINY, "--json", **without_torch(headway))
    assert told.code == 0, told.err
    assert told.json["steps"]["num"] >= 1
    for words in (["--help"], ["doctor"], ["runs"]):
        assert headway(*words, **without_torch(headway)).code in (0, 5)


def test_a_plan_is_valid_against_its_schema(headway: Headway) -> None:
    told = headway("plan", TINY, "--json")
    assert told.code == 0, told.err
    jsonschema.validate(told.json, schema("plan"))
    assert told.json["data"]["rows"]["accepted"] >= told.json["data"]["rows"]["planned"] >= 1
    assert not (headway.here / "runs").exists()


def test_what_fits_on_a_gpu_is_said_from_a_config_alone(headway: Headway) -> None:
    headway.write("llama8/config.json", json.dumps(LLAMA_8B))
    words = ("plan", "--gpu", "12GB", "--model", "llama8")
    told = headway(*words, "--json", **without_torch(headway))
    assert told.code == 0, told.err
    jsonschema.validate(told.json, schema("gpu_plan"))
    assert told.json["chosen"]["name"] == "4-bit LoRA"
    shown = headway(*words, COLUMNS="60", **without_torch(headway)).out.splitlines()
    (command,) = (line for line in shown if "headway train" in line)
    assert command.strip() == told.json["command"]
    assert max(len(line) for line in shown if line != command) <= 60
    assert sum(line.startswith("> 4-bit LoRA ") for line in shown) == 1
    assert not any("…" in line for line in shown)


@pytest.mark.parametrize(
    ("words", "code", "what"),
    [
        (("--gpu", "lots", "--model", "llama8"), 2, "--gpu: invalid value lots"),
        (("--gpu", "12", "--model", "llama8"), 2, "--gpu: invalid value 12"),
        (("--gpu", "1GB", "--model", "llama8"), 5, "llama8 does not fit on a GPU with 1.0 GB"),
        (("--gpu", "12GB"), 2, "plan --gpu needs a model"),
    ],
)
def test_a_gpu_of_no_use_is_refused_in_four_parts(
    headway: Headway, words: tuple[str, ...], code: int, what: str
) -> None:
    headway.write("llama8/config.json", json.dumps(LLAMA_8B))
    told = headway("plan", *words, COLUMNS="60")
    assert told.code == code
    first, *rest = told.err.strip().splitlines()
    assert what in first
    labels = [line.split()[0] for line in rest if line.startswith("  ") and line[2] != " "]
    assert list(dict.fromkeys(labels)) == ["have", "need", "try"]
    assert all(len(line) <= 60 for line in rest)


def test_events_and_receipt_are_valid_and_the_verbs_read_them(headway: Headway) -> None:
    told = headway("train", TINY, "--max-steps", 2, "--json")
    assert told.code == 0, told.err
    events = [json.loads(line) for line in told.out.splitlines()]
    written = headway.events("tiny")
    assert written[0]["event"] == "attempt_started"
    assert written[-1]["event"] == "ended"
    for event in written:
        jsonschema.validate(event, schema("event"))
    assert {"step_done", "saved", "ended"} <= {e["event"] for e in events}
    jsonschema.validate(headway.receipt("tiny"), schema("receipt"))
    manifest = json.loads((headway.here / "runs/tiny/model/manifest.json").read_text())
    jsonschema.validate(manifest, schema("manifest"))

    status = headway("status", "--json")
    assert status.json["state"] == "finished"
    assert "tiny" in headway("status").out
    assert "tiny" in headway("runs").out
    assert "step 2" in headway("logs").out
    assert "is not running" in headway("stop").out


def test_text_comes_out_of_a_model_and_a_loss_out_of_eval(trained: Headway) -> None:
    headway = trained
    words = ["generate", "tiny", "--prompt", "The", "--max-tokens", 8, "--seed", 1]
    said = headway(*words)
    assert said.code == 0, said.err
    assert said.out.startswith("The")
    assert headway(*words).out == said.out
    found = headway("eval", "tiny", TINY, "--json")
    assert found.code == 0, found.err
    assert 1 < found.json["loss"] < 7
    assert found.json["bits_per_byte"] == pytest.approx(found.json["loss"] / 0.6931, rel=0.02)
    talk = headway("chat", "tiny", "--max-tokens", 4, stdin="hello\n")
    assert talk.code == 2  # a text has no turns
    assert "headway generate" in talk.err
    missing = headway("generate", "nobody")
    assert missing.code == 2
    assert "tiny" in missing.err


def test_the_checkpoint_is_an_ordinary_transformers_folder(headway: Headway) -> None:
    chats = [
        {
            "messages": [
                {"role": "user", "content": f"{i}?"},
                {"role": "assistant", "content": f"{i}!"},
            ]
        }
        for i in range(20)
    ]
    headway.write("chats.jsonl", "".join(json.dumps(row) + "\n" for row in chats))
    assert headway("train", "chats.jsonl", "--preset", "tiny", "--max-steps", 2).code == 0
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = headway.here / "runs/chats/model"
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = tokenizer.apply_chat_template(chats[0]["messages"], tokenize=False)
    assert "0?" in text
    ids = tokenizer(text, return_tensors="pt")
    assert model(**ids).logits.shape[-1] == model.config.vocab_size
    assert tokenizer.eos_token_id is not None
    talk = headway("chat", "chats", "--max-tokens", 4, stdin="1?\n2?\n")
    assert talk.code == 0, talk.err


def test_lora_on_a_folder_and_going_on_with_it(headway: Headway, trained: Headway) -> None:
    base = headway.here / "base"
    base.mkdir()
    model = trained.here / "runs/tiny/model"
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (base / name).write_bytes((model / name).read_bytes())
    told = headway(
        "train", TINY, "--model", "base", "--lora", "--run-name", "adapted", "--max-steps", 3
    )
    assert told.code == 0, told.err
    receipt = headway.receipt("adapted")
    assert receipt["contract"]["verdict"] == "kept"
    assert receipt["learning_facts"]["tensors"]["trainable"] == 3 * 7 * 2
    assert (headway.here / "runs/adapted/model/adapter_model.safetensors").exists()
    more = headway("train", TINY, "--continue", "adapted", "--run-name", "more", "--max-steps", 2)
    assert more.code == 0, more.err
    assert headway.receipt("more")["steps"]["last"] == 5
    assert headway("generate", "more", "--prompt", "A", "--max-tokens", 3).code == 0


def test_the_demo_from_scratch_is_the_same_path(headway: Headway) -> None:
    told = headway("demo", "--from-scratch", "--max-steps", 2, "--batch-size", 4, "--val-size", 4)
    assert told.code == 0, told.err
    assert headway.receipt("demo-from-scratch")["steps"]["applied"] == 2
    assert "sample after step 2" in told.out


def test_b10_python_does_the_same_without_a_main_guard(headway: Headway) -> None:
    script = headway.write(
        "script.py",
        "import sys\n"
        "from headway import plan, train\n"
        f"made = plan({str(TINY)!r}, max_steps=2)\n"
        "assert 'torch' not in sys.modules\n"
        f"receipt = train({str(TINY)!r}, max_steps=2, quiet=True)\n"
        "assert made.identity == receipt.plan\n"
        "assert receipt.contract.verdict == 'kept'\n"
        "try:\n"
        "    plan('nowhere.txt')\n"
        "except Exception as error:\n"
        "    assert 'have' in str(error)\n"
        "print('done')\n",
    )
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, script], cwd=headway.here, env=headway.environment,
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("done")


def test_quiet_and_no_color(headway: Headway) -> None:
    told = headway("train", TINY, "--max-steps", 1, "--quiet")
    assert told.code == 0
    assert told.out.strip() == headway.receipt("tiny")["line"]
    assert "\x1b" not in headway("plan", TINY, NO_COLOR="1").out


def test_standard_input_is_data_too(headway: Headway) -> None:
    told = headway("plan", "-", "--preset", "tiny", "--json", stdin=TINY.read_text())
    assert told.code == 0, told.err
    assert told.json["name"] == "stdin"


def test_nothing_of_a_job_is_left_in_shared_memory(headway: Headway) -> None:
    process = headway.start("train", TINY, "--max-steps", 1)

    def is_there() -> bool:
        return any(runtime_folder().glob(f"{process.pid}-*"))

    until(is_there)
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, err
    assert not is_there()
