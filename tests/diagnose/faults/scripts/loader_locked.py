"""A DataLoader whose workers were forked while another thread had a lock."""

import threading
import time
import warnings

warnings.simplefilter("ignore")
from torch.utils.data import DataLoader, Dataset  # noqa: E402

cache_lock = threading.Lock()


class Rows(Dataset[int]):
    def __len__(self) -> int:
        return 1000

    def __getitem__(self, index: int) -> int:
        print("ready", flush=True)
        with cache_lock:
            return index


def hold() -> None:
    with cache_lock:
        time.sleep(10_000)


if __name__ == "__main__":
    threading.Thread(target=hold, daemon=True).start()
    time.sleep(0.1)
    for _ in DataLoader(Rows(), batch_size=4, num_workers=2, multiprocessing_context="fork"):
        pass
