"""A loop of one's own with accelerate, as in its examples: a bar, prints, `save_state`.

`python accelerate_loop.py [--plant stopped_loader | other_parameters]`
"""

import argparse
import copy
import os
import signal

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, Dataset, get_worker_info
from tqdm.auto import tqdm


class Points(Dataset):
    def __init__(self, plant: str) -> None:
        generator = torch.Generator().manual_seed(0)
        self.inputs = torch.randn(160, 8, generator=generator)
        self.plant = plant

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        if self.plant == "stopped_loader" and get_worker_info() is not None and index > 80:
            os.kill(os.getpid(), signal.SIGSTOP)
        return self.inputs[index], self.inputs[index, :4].argmax()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--plant", default="")
    given = parser.parse_args()
    torch.manual_seed(0)
    accelerator = Accelerator(cpu=True)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))
    trained = copy.deepcopy(model) if given.plant == "other_parameters" else model
    optimizer = torch.optim.AdamW(trained.parameters(), lr=1e-2)
    workers = 1 if given.plant == "stopped_loader" else 0
    data = DataLoader(Points(given.plant), batch_size=16, shuffle=True, num_workers=workers)
    model, optimizer, data = accelerator.prepare(model, optimizer, data)
    bar = tqdm(total=3 * len(data))
    for epoch in range(3):
        for inputs, labels in data:
            loss = nn.functional.cross_entropy(model(inputs), labels)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            bar.update()
            bar.set_postfix(loss=f"{loss.item():.4f}")
        accelerator.print(f"epoch {epoch}: loss {loss.item():.4f}")
        accelerator.save_state(f"states/epoch_{epoch}")


if __name__ == "__main__":
    main()
