"""The shape of a model comes from config.json alone: of a folder, a preset, a run or the Hub."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.helpers import chat_store, llama, plan_of, save_model, settings

from headway.base.errors import Cause, UsageError
from headway.base.pulse import Pulse
from headway.model.sizes import shape_of
from headway.planning.gpu import model_facts
from headway.planning.gpu.model_facts import SizedModel, read_model_facts


def facts(**given: Any) -> SizedModel:
    return read_model_facts(settings(**given), Pulse(None))


@pytest.mark.parametrize("name", ["config.json", ""])
def test_a_config_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(llama()))
    found = facts(model=str(tmp_path / name))
    assert found.shape == shape_of(llama())
    assert found.parameters == found.shape.parameters
    assert not found.is_new


def test_weights_that_are_there_are_counted(tmp_path: Path) -> None:
    config = save_model(tmp_path) / "config.json"
    changed = json.loads(config.read_text()) | {"intermediate_size": 999}
    config.write_text(json.dumps(changed))
    found = facts(model=str(tmp_path))
    assert found.parameters == shape_of(llama()).parameters != found.shape.parameters
    assert found.stored_bytes == 4


def test_experts_are_counted(tmp_path: Path) -> None:
    config = llama() | {"num_experts": 4, "moe_intermediate_size": 10}
    (tmp_path / "config.json").write_text(json.dumps(config))
    shape = shape_of(config)
    more = shape.layers * 3 * shape.hidden * (4 * 10 - shape.intermediate)
    assert facts(model=str(tmp_path)).parameters == shape.parameters + more


def test_a_preset_is_a_new_model() -> None:
    found = facts(preset="small")
    assert found.is_new
    assert found.name == "small"


def test_of_the_hub_only_the_config_is_fetched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(llama()))
    asked: list[str] = []

    def download(name: str, _: Pulse) -> Path:
        asked.append(name)
        return tmp_path / "config.json"

    monkeypatch.setattr(model_facts, "download_config", download)
    assert facts(model="owner/name").shape == shape_of(llama())
    assert asked == ["owner/name"]


def test_a_run_has_its_sizes_in_its_plan_even_if_it_trained_adapters(tmp_path: Path) -> None:
    plan = plan_of(chat_store(tmp_path / "chats", "..xx", ".xxx"))
    plan = replace(plan, model=replace(plan.model, config=llama(), parameters=12345))
    (tmp_path / "runs" / "chats").mkdir(parents=True)
    plan.save(tmp_path / "runs" / "chats")  # of weights, there are none
    found = facts(model="chats", output_dir=str(tmp_path / "runs"))
    assert (found.shape, found.parameters) == (shape_of(llama()), 12345)


@pytest.mark.parametrize(
    "config", [{}, {"hidden_size": 8}, llama() | {"num_hidden_layers": "two"}, None]
)
def test_sizes_that_are_not_there_are_refused(tmp_path: Path, config: Any) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError) as refused:
        facts(model=str(tmp_path))
    assert refused.value.cause is Cause.MODEL_INVALID


def test_a_model_must_be_named() -> None:
    with pytest.raises(UsageError, match="plan --gpu needs a model") as refused:
        facts()
    assert len(refused.value.remedies) == 2
