"""A loop in plain torch that prints a line a step and keeps its checkpoints with torch.save.

`python plain_torch.py [--plant stdin | nan]`
"""

import argparse
import sys
from pathlib import Path

import torch
from torch import nn


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--plant", default="")
    given = parser.parse_args()
    torch.manual_seed(0)
    inputs = torch.randn(160, 8)
    labels = inputs[:, :4].argmax(1)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    step = 0
    for epoch in range(3):
        for at in torch.randperm(160).split(16):
            if given.plant == "stdin" and step == 5:
                print("checkpoints/ exists, go on?", flush=True)
                sys.stdin.readline()
            loss = nn.functional.cross_entropy(model(inputs[at]), labels[at])
            if given.plant == "nan" and step == 5:
                loss = loss + 0 * (0 * loss).log()  # a log of zero, as in real losses
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
            print(f"step {step}/30 epoch {epoch} loss {loss.item():.4f}", flush=True)
        Path("checkpoints").mkdir(exist_ok=True)
        torch.save({"model": model.state_dict(), "step": step}, f"checkpoints/step_{step}.pt")


if __name__ == "__main__":
    main()
