"""Verify, back up, go back: what a person types; and no secret in anything that is written."""

import json
import shutil
from pathlib import Path
from typing import Any

from tests.helpers import llama, save_model
from tests.stories.conftest import Headway

TEXT = "the quick brown fox jumps over the lazy dog. " * 60
SECRETS = {
    name: f"canary-{number}-do-not-tell"
    for number, name in enumerate(
        ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "WANDB_API_KEY", "TOKEN")
    )
}


def small(headway: Headway) -> list[str]:
    headway.write("notes.txt", TEXT)
    return ["notes.txt", "--preset", "tiny", "--max-length", "32", "--max-steps", "12"]


def test_f62_a_run_is_verified_backed_up_spoiled_and_brought_back_and_no_secret_told(
    headway: Headway,
) -> None:
    """F62 on the way: whatever is said or written meanwhile, no secret is in it."""
    headway.environment |= SECRETS
    said: list[str] = []

    def type_in(*words: str, code: int = 0) -> str:
        told = headway(*words)
        said.append(told.out + told.err)
        assert told.code == code, told.err
        return told.out + told.err

    type_in("train", *small(headway), "--verbose")
    run = headway.here / "runs" / "notes"
    assert "notes: the receipt holds" in type_in("verify")
    assert json.loads(headway("verify", "notes", "--json").out)["holds"] is True

    backup = type_in("backup", "--type", "pre_recovery", "--note", "before I try").splitlines()
    assert backup[0].startswith("backed up notes as ")
    listed = type_in("backup", "--list")
    assert "pre_recovery" in listed
    assert "before I try" in listed

    receipt = json.loads((run / "receipt.json").read_text())
    receipt["rows"]["trained"] += 1
    (run / "receipt.json").write_text(json.dumps(receipt))
    differs = type_in("verify", "notes", code=4)
    assert "1 of " in differs
    assert "rows.trained" in differs
    (run / "receipt.json").unlink()
    assert "notes has no receipt: it never finished" in type_in("verify", code=4)
    shutil.rmtree(run)
    type_in(*backup[-1].split()[1:])  # the line it told to type
    assert "the receipt holds" in type_in("verify", "notes")
    assert "already trained, 0 new steps" in type_in("train", *small(headway))

    told = type_in("train", "notes.txt", "--preset", "no-such", code=2)
    assert "no-such" in told
    written = [p for folder in (headway.here, Path(headway.environment["XDG_CACHE_HOME"]))
               for p in folder.rglob("*") if p.is_file()]  # fmt: skip
    assert len(written) > 20
    for secret in SECRETS.values():
        assert [p for p in written if secret.encode() in p.read_bytes()] == []
        assert not any(secret in text for text in said)


def test_restore_and_verify_refuse_in_four_parts(headway: Headway) -> None:
    for words in (["restore"], ["restore", "notes"], ["verify", "notes"], ["backup", "notes"]):
        told = headway(*words)
        assert told.code == 2, told.err
        for part in ("  have  ", "  need  ", "  try   "):
            assert part in told.err, told.err
    assert not (headway.here / "runs").exists()


CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM
Path({canary!r}).touch()
class FoxConfig(LlamaConfig):
    model_type = "fox"
class FoxForCausalLM(LlamaForCausalLM):
    config_class = FoxConfig
"""


def model_with_code(folder: Path, canary: Path) -> Path:
    """A Llama under another name, which only the Python file beside it knows."""
    save_model(folder)
    (folder / "fox.py").write_text(CODE.format(canary=str(canary)))
    config: dict[str, Any] = json.loads((folder / "config.json").read_text()) | llama()
    config |= {
        "model_type": "fox",
        "architectures": ["FoxForCausalLM"],
        "auto_map": {"AutoConfig": "fox.FoxConfig", "AutoModelForCausalLM": "fox.FoxForCausalLM"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_f57_code_of_a_model_folder_runs_only_when_asked_to_and_that_is_said(
    headway: Headway,
) -> None:
    canary = headway.here / "canary"
    model_with_code(headway.here / "fox", canary)
    words = [
        "train",
        *small(headway)[:1],
        "--model",
        "fox",
        "--max-length",
        "32",
        "--max-steps",
        "2",
    ]
    told = headway(*words)
    assert told.code == 2, told.err
    assert "needs its own code, which runs only if you allow it" in " ".join(told.err.split())
    assert "try   --trust-remote-code" in told.err
    assert not canary.exists()

    told = headway(*words, "--trust-remote-code", "--run-name", "trusting")
    assert told.code == 0, told.err
    assert "runs the code in its folder" in told.out
    assert canary.exists()
    assert headway.plan("trusting")["model"]["trust_remote_code"] is True
    assert headway.receipt("trusting")["environment"]["trust_remote_code"] == "true"

    canary.unlink()
    ask = ["generate", "trusting", "--prompt", "the", "--max-tokens", "3"]
    assert headway(*ask).code == 2
    assert not canary.exists()
    told = headway(*ask, "--trust-remote-code")
    assert told.code == 0, told.err
    assert told.out.startswith("the")
    assert headway("verify", "trusting").code == 0
