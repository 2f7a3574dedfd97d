"""A pool of processes whose only worker is stopped by whoever tests it."""

import time
from concurrent.futures import ProcessPoolExecutor


def clean(row: int) -> int:
    time.sleep(0.05)
    return row


if __name__ == "__main__":
    with ProcessPoolExecutor(1) as pool:
        for future in [pool.submit(clean, row) for row in range(2_000)]:
            if future.result() == 5:
                print("ready", flush=True)
