"""What fits on a GPU reads well on 60 columns."""

import pytest
from tests.planning.gpu.test_ways import LLAMA_8B, planned

from headway.ui.show_gpu import gpu_lines


@pytest.mark.parametrize("width", [60, 80])
def test_the_table_the_choice_and_the_line(width: int) -> None:
    plan = planned(12)
    lines = gpu_lines(plan, width)
    assert all(len(line) <= width for line in lines if "headway train" not in line)
    assert not any("…" in line for line in lines)
    (marked,) = (line for line in lines if line.startswith("> "))
    assert marked.split()[1:] == ["4-bit", "LoRA", "adamw", "18.8", "GB", "8.1", "GB", "4,096"]
    assert f"  {plan.command}" in lines
    text = " ".join(lines)
    assert "4-bit LoRA fits at 2,048 tokens, recomputed; full weights need 161.2 GB" in text
    assert "Not yet run on a GPU" in text.replace("  ", " ")


def test_an_estimate_of_adapters_is_said_to_be_one() -> None:
    said = "Adapters are counted as a Llama's, an estimate for this kind of model."
    other = planned(80, LLAMA_8B | {"model_type": "falcon"})
    assert said in " ".join(gpu_lines(other, 80))
    assert said not in " ".join(gpu_lines(planned(80), 80))
