"""A pool of processes whose only worker is stopped by whoever tests it."""

import time
from concurrent.futures import ProcessPoolExecutor


def clean(row: int) -> int:
    if row == 5:
        print("ready", flush=True)
    time.sleep(0.01)
    return row


if __name__ == "__main__":
    with ProcessPoolExecutor(1) as pool:
        futures = [pool.submit(clean, row) for row in range(100_000)]
        for future in futures:
            future.result()
