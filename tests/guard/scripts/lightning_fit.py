"""A script for Lightning: a module with its own optimizer, a checkpoint after each epoch.

`python lightning_fit.py [--plant queue | zero_rate]`
"""

import argparse
import queue
import threading
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Words(pl.LightningModule):
    def __init__(self, plant: str) -> None:
        super().__init__()
        self.plant = plant
        self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))
        self.augmented: queue.Queue[Any] = queue.Queue()

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        inputs, labels = batch
        if self.plant == "queue" and index == 3:
            # The thread that should fill it has ended.
            producer = threading.Thread(target=lambda: None, name="augmenter")
            producer.start()
            producer.join()
            inputs = self.augmented.get()
        loss = nn.functional.cross_entropy(self.net(inputs), labels)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.0 if self.plant == "zero_rate" else 1e-2)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--plant", default="")
    given = parser.parse_args()
    pl.seed_everything(0)
    inputs = torch.randn(160, 8)
    labels = inputs[:, :4].argmax(1)
    trainer = pl.Trainer(
        max_epochs=3,
        accelerator="cpu",
        log_every_n_steps=1,
        callbacks=[ModelCheckpoint(dirpath="checkpoints", save_top_k=-1)],
    )
    data = DataLoader(TensorDataset(inputs, labels), batch_size=16, shuffle=True)
    trainer.fit(Words(given.plant), data)


if __name__ == "__main__":
    main()
