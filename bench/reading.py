"""One pass over a file by one reader, timed: its seconds, rows and peak memory as JSON.

Usage:
    python bench/reading.py {loop,datasets,headway} FILE
"""

import json
import sys
import time
from collections.abc import Iterator

from peers.clock import peak_bytes


def loop(path: str) -> Iterator[object]:
    """What one writes oneself."""
    with open(path) as file:  # noqa: PTH123 - as one writes it
        for line in file:
            row = json.loads(line)
            yield row.get("text") or row["messages"]


def datasets(path: str) -> Iterator[object]:
    """The `datasets` library, streaming."""
    from datasets import load_dataset

    yield from load_dataset("json", data_files=path, split="train", streaming=True)


def headway(path: str) -> Iterator[object]:
    """Headway: read, checked, every row a record with its file and line."""
    from headway.base.pulse import Pulse
    from headway.data.formats.detect import read
    from headway.data.formats.records import Record
    from headway.data.sources.find import find

    (source,) = find([path])
    for item in read(source, len, Pulse()):
        assert isinstance(item, Record), item
        yield item


READERS = {"loop": loop, "datasets": datasets, "headway": headway}


def main(name: str, path: str) -> None:
    """Read it all; the clock runs from the first row to the last."""
    rows = READERS[name](path)
    next(rows)
    began_s = time.process_time()
    num_rows = 1 + sum(1 for _ in rows)
    seconds = time.process_time() - began_s
    print(json.dumps({"seconds": seconds, "rows": num_rows, "peak": peak_bytes()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
