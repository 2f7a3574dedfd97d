"""Where the weights come from, read without loading them; and the weights a job begins with."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.helpers import VOCAB, folder_start, llama, plan_of, run, save_model, text_store
from tests.model.gguf.gguf_files import small_model, write_gguf

from headway.base.errors import Refusal, UsageError
from headway.base.pulse import Pulse
from headway.config.settings import Settings
from headway.model.load import trainable
from headway.model.sizes import shape_of
from headway.planning.model_source import ModelSource, find_model_source
from headway.runs.plan import Plan
from headway.training.weights.initial_weights import load_folder, starting_model


def origin(num_bytes: int = 0, **given: Any) -> ModelSource:
    return find_model_source(Settings(**given), num_bytes, Pulse())


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs: `full` of a model from nothing, `adapters` on a folder beside them."""
    here = tmp_path_factory.mktemp("origin")
    store = text_store(here / "store", 200)
    save_model(here / "base")
    small = {"max_length": 16, "batch_size": 4}
    assert run(here / "runs" / "full", plan_of(store, **small)).code == 0
    start = folder_start(here / "base")
    assert run(here / "runs" / "adapters", plan_of(store, start, lora_r=2, **small)).code == 0
    return here / "runs"


# ---- presets and folders -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_bytes", "given", "name"),
    [
        (1000, {}, "tiny"),
        (10**6 - 1, {}, "tiny"),
        (10**6, {}, "mini"),
        (10**9, {"preset": "tiny"}, "tiny"),
    ],
)
def test_from_nothing_by_the_size_of_the_data(num_bytes: int, given: Any, name: str) -> None:
    found = origin(num_bytes, **given)
    assert (found.initial.source, found.initial.name, found.initial.path) == ("preset", name, "")
    assert found.tokenizer is None
    assert found.embedding_rows is None


@pytest.mark.parametrize(
    ("num_bytes", "given", "name"),
    [(1000, {}, "tiny"), (10**6, {}, "mini"), (1000, {"preset": "base"}, "base")],
)
def test_adapters_on_random_weights_are_refused(num_bytes: int, given: Any, name: str) -> None:
    with pytest.raises(UsageError, match="a new model's weights are random") as refused:
        origin(num_bytes, lora=True, **given)
    assert [one.do for one in refused.value.remedies] == [f"--preset {name}", "--lora --model DIR"]


def test_a_folder_is_read_without_loading_it(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "base")
    found = origin(model=str(folder))
    start = found.initial
    assert (start.source, start.name, start.path) == ("folder", "base", str(folder))
    assert start.parameters == shape_of(llama()).parameters
    assert start.config["model_type"] == "llama"
    assert start.stored_bytes == 4
    assert (found.tokenizer, found.embedding_rows) == (folder, VOCAB)
    assert start.parent is None  # a foreign folder starts at global step 0


def test_a_gguf_file_is_read_as_the_folder_that_it_becomes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = write_gguf(tmp_path / "small.gguf", small_model())
    found = origin(model=str(path))
    start = found.initial
    assert (start.source, start.name) == ("folder", "small.gguf")
    assert Path(start.path).parent == tmp_path / "cache" / "headway" / "models"
    assert start.parameters == sum(p.numel() for p in small_model().parameters())
    assert (str(found.tokenizer), found.embedding_rows) == (start.path, VOCAB + 1)
    again = origin(model=start.path).initial
    assert again.weights_sha256 == start.weights_sha256


def test_other_weights_have_another_hash(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "base")
    before = folder_start(folder).weights_sha256
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][0] += 1
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert folder_start(folder).weights_sha256 != before


def refused(**given: Any) -> Refusal:
    with pytest.raises(UsageError) as caught:
        origin(**given)
    assert caught.value.remedies
    return caught.value


def test_a_folder_that_is_not_there_is_refused_with_the_nearest(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "base-model")
    found = refused(model=str(tmp_path / "base-modl"))
    assert found.what == f"model folder {tmp_path / 'base-modl'} does not exist"
    assert found.remedies[0].do == f"--model {folder}"


HARM: dict[str, Any] = {
    "no config.json": lambda f: (f / "config.json").unlink(),
    "no *.safetensors": lambda f: (f / "model.safetensors").unlink(),
    "header too large": lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 20),
}
HARM_TO_CONFIG: dict[str, Any] = {
    "no model_type": lambda f: (f / "config.json").write_text("{}"),
    "property name": lambda f: (f / "config.json").write_text("{not"),
    "not a JSON object": lambda f: (f / "config.json").write_text("[1, 2]"),
    "utf-8": lambda f: (f / "config.json").write_bytes(b"\xc3\x28"),
}


@pytest.mark.parametrize("reason", HARM)
def test_a_folder_that_is_no_model_is_refused(tmp_path: Path, reason: str) -> None:
    folder = save_model(tmp_path / "base")
    HARM[reason](folder)
    found = refused(model=str(folder))
    assert found.what == f"{folder} is not a model folder"
    assert reason in found.have


@pytest.mark.parametrize("reason", HARM_TO_CONFIG)
def test_a_config_that_is_none_is_refused_by_name(tmp_path: Path, reason: str) -> None:
    folder = save_model(tmp_path / "base")
    HARM_TO_CONFIG[reason](folder)
    found = refused(model=str(folder))
    assert found.what == f"{folder / 'config.json'} is not valid"
    assert reason in found.have


def test_adapters_of_another_trainer_are_refused_with_their_base(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "qwen"}')
    assert refused(model=str(tmp_path)).remedies[0].do == "--model qwen --lora"


def test_a_tokenizer_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "does not exist" in refused(tokenizer=str(tmp_path / "words")).what
    assert origin(tokenizer=str(tmp_path)).tokenizer == tmp_path


# ---- runs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["continue_run", "model", "folder", "checkpoint", "link"])
def test_a_run_is_gone_on_from_however_it_is_named(runs: Path, how: str) -> None:
    full = runs / "full"
    names = {"folder": full, "checkpoint": full / "checkpoint-3", "link": full / "model"}
    given = {how: "full"} if how not in names else {"model": str(names[how])}
    start = origin(output_dir=str(runs), **given).initial
    assert start.source == "run"
    assert start.parent is not None
    assert start.parent.checkpoint == str(full / "checkpoint-3")
    assert (start.parent.global_step, start.parent.keeps_optimizer) == (3, True)
    assert start.parameters == shape_of(llama()).parameters


def test_fresh_moments_are_asked_for(runs: Path) -> None:
    start = origin(output_dir=str(runs), continue_run="full", reset_optimizer=True).initial
    assert start.parent is not None
    assert not start.parent.keeps_optimizer


@pytest.mark.parametrize(
    ("optim", "keeps"),
    [("adamw", True), ("paged_adamw", True), ("adamw_8bit", False), ("muon", False)],
)
def test_moments_of_another_optimizer_are_not_gone_on_with(
    runs: Path, optim: Any, keeps: bool
) -> None:
    """A checkpoint that was taken out of its run says nothing: what fits is taken, and counted."""
    start = origin(output_dir=str(runs), continue_run="full", optim=optim).initial
    assert start.parent is not None
    assert start.parent.keeps_optimizer == keeps


def test_adapters_are_gone_on_with(runs: Path) -> None:
    start = origin(output_dir=str(runs), continue_run="adapters").initial
    assert start.adapter is not None
    assert (start.adapter.r, start.adapter.alpha) == (2, 32)
    assert start.parameters == shape_of(llama()).parameters
    saved = load_file(runs / "adapters" / "model" / "adapter_model.safetensors")
    assert start.adapter_parameters == sum(t.numel() for t in saved.values())


@pytest.mark.parametrize(
    ("given", "have"),
    [
        ({"lora": False}, "lora false, true in adapters"),
        ({"lora": True, "lora_r": 8}, "lora.r 8, 2 in adapters"),
        ({"lora": True, "lora_alpha": 1.0}, "lora.lora_alpha 1, 32 in adapters"),
        ({"lora": True, "lora_dropout": 0.5}, "lora.lora_dropout 0.5, 0 in adapters"),
    ],
)
def test_adapters_keep_their_shape(runs: Path, given: Any, have: str) -> None:
    origins = dict.fromkeys(given, "--flag")
    found = refused(output_dir=str(runs), continue_run="adapters", **given, origins=origins)
    assert found.what == "adapters has adapters, and training continues with them unchanged"
    assert found.have == have
    taken_over = origin(
        output_dir=str(runs), continue_run="adapters", lora=True, lora_r=8, origins=origins,
        inherited=dict.fromkeys(given, "person"),
    )  # fmt: skip
    assert taken_over.initial.adapter is not None


def test_new_adapters_on_a_run_have_no_moments_to_go_on_with(runs: Path) -> None:
    start = origin(output_dir=str(runs), continue_run="full", lora=True).initial
    assert start.parent is not None
    assert not start.parent.keeps_optimizer
    assert start.parent.global_step == 3


def test_r05_a_run_without_a_checkpoint_that_verifies_is_refused(runs: Path) -> None:
    broken = runs / "broken"
    (broken / "checkpoint-3").mkdir(parents=True)
    (broken / "plan.json").write_bytes((runs / "full" / "plan.json").read_bytes())
    found = refused(output_dir=str(runs), continue_run="broken")
    assert found.have == "checkpoint-3: manifest.json is missing"


# ---- the weights a job begins with -------------------------------------------------------------


def weights(plan: Plan) -> dict[str, torch.Tensor]:
    return {name: p.detach() for name, p in starting_model(plan).named_parameters()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def test_the_weights_can_be_had_again(runs: Path) -> None:
    store = text_store(runs.parent / "again", 200)
    base = folder_start(runs.parent / "base")
    for start, given in (
        (None, {}),
        (base, {}),
        (base, {"lora_r": 2}),
        (origin(output_dir=str(runs), continue_run="full").initial, {}),
        (origin(output_dir=str(runs), continue_run="adapters").initial, {}),
    ):
        plan = plan_of(store, start, **given) if start else plan_of(store)
        first = weights(plan)
        torch.manual_seed(77)
        assert same(weights(plan), first)


def test_adapters_that_go_on_are_those_that_were_trained(runs: Path) -> None:
    store = text_store(runs.parent / "on", 200)
    plan = plan_of(store, origin(output_dir=str(runs), continue_run="adapters").initial)
    model = starting_model(plan)
    found = {n: p.detach() for n, p in trainable(model).items()}
    saved = load_file(runs / "adapters" / "model" / "adapter_model.safetensors")
    assert len(found) == len(saved)
    named = {n.replace(".default.", "."): p for n, p in found.items()}
    assert same(named, {n: saved[n] for n in named})


def test_a_base_model_that_is_gone_is_named(runs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "adapters"
    folder.mkdir()
    gone = {"base_model_name_or_path": str(tmp_path / "gone"), "peft_type": "LORA"}
    (folder / "adapter_config.json").write_text(json.dumps(gone))
    with pytest.raises(UsageError, match="the base model of adapters is missing") as caught:
        load_folder(folder)
    assert str(tmp_path / "gone") in caught.value.have


def test_a_base_model_that_was_moved_is_named_where_it_is_now(runs: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(runs.parent / "base", moved)
    model: Any = load_folder(runs / "adapters" / "model", base=moved)
    (config,) = model.peft_config.values()
    assert config.base_model_name_or_path == str(moved)
