"""A loop that computes for ever."""


def transform(rows: int) -> int:
    print("ready", flush=True)
    while True:
        rows = (rows * 31 + 7) % 1_000_003


transform(7)
