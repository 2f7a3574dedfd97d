"""A DataLoader that is merely slow."""

import time
import warnings

warnings.simplefilter("ignore")
from torch.utils.data import DataLoader, Dataset  # noqa: E402


class Rows(Dataset[int]):
    def __len__(self) -> int:
        return 1_000_000

    def __getitem__(self, index: int) -> int:
        if index == 8:
            print("ready", flush=True)
        time.sleep(0.2)
        return index


if __name__ == "__main__":
    for _ in DataLoader(Rows(), batch_size=4, num_workers=2):
        pass
