"""A model goes out into the world: exported, opened by others, killed halfway, and checked."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.export.folders import change

from .conftest import Headway, until

QUESTIONS = {"Who are you?": "A model.", "What is red?": "A color.", "Name a color.": "Red."}
# What somebody else types, who has never heard of Headway.
ELSEWHERE = """
import json, sys
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
words = AutoTokenizer.from_pretrained(sys.argv[1])
answers = []
for question in sys.argv[2:]:
    turns = [{"role": "user", "content": question}]
    ids = words.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt")
    ids = ids["input_ids"] if hasattr(ids, "keys") else ids
    out = model.generate(ids, max_new_tokens=50, do_sample=False)[0, ids.shape[1]:].tolist()
    answers.append([words.decode(out, skip_special_tokens=True), len(out)])
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Headway:
    """A run that has learned three answers."""
    place = tmp_path_factory.mktemp("exports")
    headway = Headway(place, place / "cache")
    lines = [
        json.dumps(
            {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]}
        )
        for q, a in QUESTIONS.items()
    ]
    headway.write("chats.jsonl", "\n".join(lines * 40) + "\n")
    done = headway("train", "chats.jsonl", "--preset", "tiny", "--run-name", "chats", "--quiet")
    assert done.code == 0, done.err
    return headway


@pytest.fixture(scope="module")
def folder(trained: Headway) -> Path:
    """Its export."""
    done = trained("export", "chats", "--to", "hf", "-o", "out")
    assert done.code == 0, done.err
    assert "same answers in transformers" in done.out
    return trained.here / "out"


def test_x03_an_export_answers_in_transformers_as_it_was_taught(
    trained: Headway, folder: Path
) -> None:
    note = json.loads((folder / "export.json").read_text())
    assert all(check["passed"] for check in note["verification"]["checks"])
    found = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(folder), *QUESTIONS],
        capture_output=True,
        text=True,
        check=True,
    )
    for (answer, length), expected in zip(
        json.loads(found.stdout), QUESTIONS.values(), strict=True
    ):
        assert answer == expected
        assert length < 50, "it stops by itself"
    assert list(trained.here.glob(".out*")) == []
    checked = trained("check", "out")
    assert checked.code == 0, checked.out
    assert "nothing found" in " ".join(checked.out.split())


def test_an_export_that_is_killed_leaves_nothing_under_its_name(trained: Headway) -> None:
    process = trained.start("export", "chats", "--to", "hf", "-o", "killed")
    until(lambda: any(trained.here.glob(".killed.*.export/*")))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (trained.here / "killed").exists()
    assert any(trained.here.glob(".killed.*.export"))
    done = trained("export", "chats", "--to", "hf", "-o", "killed", "--json")
    assert done.code == 0, done.err
    assert done.json["files"]
    assert list(trained.here.glob(".killed*")) == []


def test_t07_the_fix_of_a_check_can_be_typed_and_works(trained: Headway, folder: Path) -> None:
    bad = trained.here / "bad"
    shutil.copytree(folder, bad)
    (bad / "manifest.json").unlink()
    change(bad / "generation_config.json", eos_token_id=0)
    change(bad / "config.json", eos_token_id=0)
    found = trained("check", "bad", "--json")
    assert found.code == 4
    (finding,) = found.json["findings"]
    assert finding["cause"] == "end_token_missing"
    _, *words = finding["remedies"][0]["do"].split()
    assert trained(*words).code == 0
    assert trained("check", "bad-fixed").code == 0


def test_x02_finetune_trains_merges_and_checks_in_one_go(trained: Headway, folder: Path) -> None:
    done = trained(
        *("finetune", "chats.jsonl", "--model", folder.name, "--lora", "--to", "hf"),
        *("--run-name", "tuned", "--max-steps", 12, "--out", "tuned"),
    )
    assert done.code == 0, done.out + done.err
    text = " ".join(done.out.split())
    assert "merged in fp32 into out" in text
    assert "same answers in transformers" in text
    assert "tuned: nothing found" in text
