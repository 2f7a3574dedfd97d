"""Pages about symptoms: what a plan prints is what they quote."""

import itertools
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tests.helpers import save_model

from .conftest import Headway

SYMPTOMS = Path(__file__).resolve().parents[2] / "docs" / "symptoms"
MASKED = [{"input_ids": [*range(100, 124)], "labels": [-100] * 24} for _ in range(20)]
TEXTS = [{"text": f"{n}: the harbor opens at nine. " * 4} for n in range(64)]
CHATS = [
    {
        "messages": [
            {"role": "user", "content": f"What is {n} and {n}?"},
            {"role": "assistant", "content": f"It is {2 * n}."},
        ]
    }
    for n in range(1, 25)
]
QUOTED = {
    "loss-is-0": (MASKED, 3),
    "loss-does-not-go-down": (TEXTS, 0),
    "assistant-mask-all-zero": (CHATS, 0),
    "fine-tuned-model-never-stops": (CHATS, 0),
}


@pytest.mark.parametrize("page", QUOTED)
def test_what_a_plan_says_is_what_the_page_says(headway: Headway, page: str) -> None:
    records, code = QUOTED[page]
    blocks = re.findall(r"^```\n(.*?)^```$", (SYMPTOMS / f"{page}.md").read_text(), re.M | re.S)
    (command, quoted) = next(
        (first, second)
        for first, second in itertools.pairwise(blocks)
        if first.startswith("headway plan")
    )
    words = shlex.split(command)[1:]
    headway.write(words[1], "".join(json.dumps(one) + "\n" for one in records))
    save_model(headway.here / "DIR")
    done = headway(*words)
    assert done.code == code, done.err

    def plain(text: str) -> str:
        return re.sub(r"\d+", "0", text)

    assert plain(quoted.strip()) in plain(done.out + done.err)


def test_adapters_that_learned_nothing_are_shown_by_the_line_on_the_page(headway: Headway) -> None:
    page = (SYMPTOMS / "lora-model-behaves-like-the-base.md").read_text()
    (command,) = re.findall(r"^python (-c .*?)^```$", page, re.M | re.S)
    zeros, ones = np.zeros((2, 2), np.float32), np.ones((2, 2), np.float32)
    tensors: dict[str, Any] = {"a.lora_A": ones, "a.lora_B": zeros, "b.lora_B": ones}
    save_file(tensors, headway.here / "adapter_model.safetensors")
    done = subprocess.run(
        [sys.executable, *shlex.split(command)],
        cwd=headway.here,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["a.lora_B 0.0", "b.lora_B 1.0"]
