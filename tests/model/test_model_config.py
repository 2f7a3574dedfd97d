"""A configuration is checked for what is read from it; the campaign tries the rest."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.helpers import llama

from headway.base.errors import Cause, UsageError
from headway.model.model_config import check_router_loss, config_value, read_config
from headway.model.sizes import shape_of

TENSORS = {
    "model.embed_tokens.weight": ("F32", (259, 16)),
    "model.layers.0.mlp.up_proj.weight": ("F32", (32, 16)),
    "model.norm.weight": ("F32", (16,)),
}


def read(folder: Path, **changes: Any) -> dict[str, Any]:
    config = {name: value for name, value in llama(**changes).items() if value != "left out"}
    (folder / "config.json").write_text(json.dumps(config))
    return read_config(folder, TENSORS)


def test_a_good_one_is_read_as_it_is(tmp_path: Path) -> None:
    assert read(tmp_path) == llama()


def test_what_it_leaves_out_is_taken_from_the_embedding(tmp_path: Path) -> None:
    found = read(tmp_path, vocab_size="left out", hidden_size="left out")
    assert (found["vocab_size"], found["hidden_size"]) == (259, 16)


def test_one_value_per_layer_is_a_list_of_them(tmp_path: Path) -> None:
    found = read(tmp_path, intermediate_size=[16, 32])
    assert shape_of(found).intermediate == 32


def test_numbers_without_end_are_numbers_in_json_as_transformers_writes_it(tmp_path: Path) -> None:
    assert read(tmp_path, time_step_limit=[0.0, float("inf")])["time_step_limit"][1] == float("inf")


@pytest.mark.parametrize(
    ("changes", "have"),
    [
        ({"num_hidden_layers": -1}, "num_hidden_layers -1: not a number above 0"),
        ({"num_hidden_layers": 4}, "num_hidden_layers 4: more than the 3 that its weights hold"),
        ({"hidden_size": True}, "hidden_size true: not a number above 0"),
        ({"vocab_size": 10**6}, "vocab_size 1000000: more than the 4,672 that its weights hold"),
        ({"sliding_window": -1}, "sliding_window -1: not a number of tokens"),
        ({"attention_dropout": 2.5}, "attention_dropout 2.5: not a probability"),
        ({"eos_token_id": ["a"]}, 'eos_token_id ["a"]: not a number'),
    ],
)
def test_a_value_that_cannot_be_right_is_named(
    changes: dict[str, Any], have: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, **changes)
    assert caught.value.what == f"{tmp_path / 'config.json'} is not valid"
    assert caught.value.have == have


def test_the_language_model_of_a_multimodal_one_is_meant() -> None:
    config = {"hidden_size": 8, "text_config": {"hidden_size": 16}}
    assert config_value(config, "hidden_size") == 16
    assert config_value(config, "vocab_size") is None


def test_a_router_loss_is_refused_unless_it_weighs_nothing(tmp_path: Path) -> None:
    check_router_loss({"output_router_logits": False}, tmp_path)
    check_router_loss({"output_router_logits": True, "router_aux_loss_coef": 0.0}, tmp_path)
    with pytest.raises(UsageError) as caught:
        check_router_loss({"output_router_logits": True, "router_aux_loss_coef": 0.1}, tmp_path)
    assert caught.value.cause == Cause.MODEL_UNSUPPORTED
    assert caught.value.have == '"output_router_logits": true, weight 0.1'


@pytest.mark.parametrize("written", ['"output_router_logits": true', '"output_router_logits":true'])
def test_the_remedy_for_a_router_loss_works_as_it_is_typed(written: str, tmp_path: Path) -> None:
    import subprocess

    path = tmp_path / "config.json"
    path.write_text("{" + written + ', "a": true}')
    with pytest.raises(UsageError) as caught:
        check_router_loss(json.loads(path.read_text()), tmp_path)
    subprocess.run(["sh", "-c", caught.value.remedies[0].do], check=True)
    assert json.loads(path.read_text()) == {"output_router_logits": False, "a": True}
