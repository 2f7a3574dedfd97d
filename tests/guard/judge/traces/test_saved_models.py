"""Which files are weights, what was saved together, and which came first."""

from pathlib import Path

import pytest

from headway.guard.facts import TouchedFile
from headway.guard.judge.traces.saved_models import by_series, num_models_unread, saved_models

ROOT = Path("/run-7/work")


def touched(*names: str) -> list[TouchedFile]:
    return [TouchedFile(ROOT / name, 100, float(at), True) for at, name in enumerate(names)]


@pytest.mark.parametrize(
    ("names", "series"),
    [
        (  # transformers
            ["out/checkpoint-10/model.safetensors", "out/checkpoint-9/model.safetensors"],
            [["out/checkpoint-9", "out/checkpoint-10"]],
        ),
        (  # a model in shards is one model
            ["out/model-00001-of-00002.safetensors", "out/model-00002-of-00002.safetensors"],
            [["out"]],
        ),
        (  # Lightning
            [f"lightning_logs/version_0/checkpoints/epoch={n}-step={n}0.ckpt" for n in (1, 10)],
            [[f"lightning_logs/version_0/checkpoints/epoch={n}-step={n}0.ckpt" for n in (1, 10)]],
        ),
        (["ck/model_2.pt", "ck/model_11.pt"], [["ck/model_2.pt", "ck/model_11.pt"]]),
        (["states/epoch_0/model.safetensors"], [["states/epoch_0"]]),
        (["out/checkpoint-5/unet/diffusion.safetensors"], [["out/checkpoint-5"]]),
        (["model.pt"], [["."]]),
        (
            [
                "out/checkpoint-5/optimizer.pt",
                "out/checkpoint-5/scheduler.pt",
                "out/training_args.bin",
                "a/random_states_0.pkl",
                "out/rng_state.pth",
                "out/tokenizer.bin",
            ],
            [],
        ),
    ],
)
def test_models_are_told_from_the_rest(names: list[str], series: list[list[str]]) -> None:
    found = by_series(saved_models(touched(*names), ROOT))
    assert [[str(one.path.relative_to(ROOT)) for one in group] for group in found] == series


def test_an_empty_file_is_no_model() -> None:
    assert saved_models([TouchedFile(ROOT / "model.pt", 0, 1.0, True)], ROOT) == ()


def test_models_of_other_kinds_are_counted() -> None:
    assert num_models_unread(touched("a.gguf", "b.npz", "random_states_0.pkl", "log.txt")) == 2
