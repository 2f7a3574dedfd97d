"""Fixes are lines for the very folder that they are for."""

import shlex
from pathlib import Path

from tests.export.folders import adapter_folder, model_folder

from headway.cli import VERBS
from headway.config.command_line import parse
from headway.export.check.folder_facts import read_folder
from headway.export.check.rules.fixes import copy_from_base, earlier, export_again, train_again


def test_an_export_of_a_folder_with_a_space_can_be_typed(tmp_path: Path) -> None:
    base = model_folder(tmp_path / "my base")
    adapter = adapter_folder(tmp_path / "my adapter", base)
    remedy = export_again(read_folder(adapter, read_folder(base)), "writes it again")
    words = shlex.split(remedy.do)
    assert words[:3] == ["headway", "export", str(adapter)]
    found = parse(words[2:], VERBS["export"].options, settings=False)
    assert found.switches == {"to": "hf", "out": f"{adapter}-fixed", "model": str(base)}


def test_only_what_the_base_has_is_copied(tmp_path: Path) -> None:
    base = read_folder(model_folder(tmp_path / "base"))
    facts = read_folder(model_folder(tmp_path / "tuned"), base)
    (remedy,) = copy_from_base(facts, "chat_template.jinja", "")
    assert shlex.split(remedy.do)[1:] == [f"{base.path}/chat_template.jinja", f"{facts.path}/"]
    assert copy_from_base(facts, "vocab.json", "") == ()
    assert copy_from_base(base, "chat_template.jinja", "") == ()


def test_the_checkpoint_before_is_the_next_lower_number(tmp_path: Path) -> None:
    for name in ("checkpoint-9", "checkpoint-100", "checkpoint-20", "other-15"):
        model_folder(tmp_path / name)
    (remedy,) = earlier(read_folder(tmp_path / "checkpoint-100"))
    assert remedy.do == f"headway check {tmp_path}/checkpoint-20"
    assert earlier(read_folder(tmp_path / "checkpoint-9")) == ()
    assert earlier(read_folder(model_folder(tmp_path / "model"))) == ()


def test_adapters_are_trained_again_as_adapters(tmp_path: Path) -> None:
    base = read_folder(model_folder(tmp_path / "base"))
    adapter = read_folder(adapter_folder(tmp_path / "adapter", base.path), base)
    assert train_again(adapter, "").do == f"headway train DATA --model {base.path} --lora"
    assert train_again(base, "").do == "headway train DATA --model BASE"
