"""One part of the way from a file to the trainer, timed: figures as JSON.

Usage:
    python bench/surveying.py {tokenizers,survey,sample,seek,feed,flow} FILE TOKENIZER FOLDER
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from peers.clock import peak_bytes

_TOGETHER = 500_000  # characters that are encoded at a time, as the survey does
STEP_TOKENS = 20_000


def texts(path: str) -> Iterator[list[str]]:
    """Rows' texts, some hundred at a time."""
    batch: list[str] = []
    with Path(path).open() as file:
        for line in file:
            batch.append(json.loads(line)["text"])
            if sum(map(len, batch)) >= _TOGETHER:
                yield batch
                batch = []
    if batch:
        yield batch


def tokenizers(path: str, tokenizer: str, _: str) -> dict[str, float]:
    """The library alone: only its own time counts."""
    from tokenizers import Tokenizer

    words = Tokenizer.from_file(str(Path(tokenizer, "tokenizer.json")))
    seconds, tokens = 0.0, 0
    for batch in texts(path):
        began_s = time.monotonic()
        encodings = words.encode_batch_fast(batch, add_special_tokens=False)
        seconds += time.monotonic() - began_s
        tokens += sum(len(one.ids) for one in encodings)
    return {"seconds": seconds, "tokens": tokens}


def looked_at(path: str, tokenizer: str, folder: str, exact_bytes: int):
    """A survey by Headway: a store, and the seconds."""
    from headway.base.pulse import Pulse
    from headway.data.examples.maker import ExampleOptions
    from headway.data.sources.find import find
    from headway.data.survey.survey import survey

    began_s = time.monotonic()
    store = survey(
        find([path]),
        ExampleOptions(Path(tokenizer), 0, None, True),
        max_rejected=0.05,
        exact_bytes=exact_bytes,
        cache=Path(folder),
        pulse=Pulse(),
    )
    return store, time.monotonic() - began_s


def survey(path: str, tokenizer: str, folder: str) -> dict[str, float]:
    """All of it: read, checked, hashed, tokenised, stored, measured."""
    store, seconds = looked_at(path, tokenizer, folder, 1 << 62)
    return {"seconds": seconds, "tokens": store.survey.tokens}


def sample(path: str, tokenizer: str, folder: str) -> dict[str, float]:
    """What a plan waits for where the data is large."""
    store, seconds = looked_at(path, tokenizer, folder, 1)
    sampled = store.survey.sampled
    return {
        "seconds": seconds,
        "tokens": store.survey.tokens * sampled.scale,
        "error": sampled.error,
    }


def seek(*_: str) -> dict[str, float]:
    """The rows of step one million of ten million rows."""
    from headway.data.order import StoreOrder

    order = StoreOrder(1, 10_000_000, False, 0, 10)
    return {"seconds": timed(lambda: order.rows(1_000_000))}


def timed(work: Callable[[], object]) -> float:
    """Seconds of the first call: a resume makes one."""
    began_s = time.monotonic()
    work()
    return time.monotonic() - began_s


def feed(path: str, tokenizer: str, folder: str) -> dict[str, float]:
    """Batches out of a store: what the thread beside the training does."""
    from headway.data.batching.rows import rows_of
    from headway.data.order import StoreOrder

    store, _ = looked_at(path, tokenizer, folder, 1 << 62)
    rows = rows_of(store, 512)
    order = StoreOrder(1, rows.num_full, rows.has_short, 0, STEP_TOKENS // 512)
    return batches_of(rows, order, min(order.steps_per_epoch, 200))


def flow(path: str, tokenizer: str, folder: str) -> dict[str, float]:
    """Batches out of a flow's windows; its reader is another process, and made them before."""
    from headway.base.files import hash_bytes
    from headway.data.examples.maker import ExampleOptions
    from headway.data.sources.find import find
    from headway.data.stream.client import StreamClient
    from headway.data.stream.spec import StreamFile, StreamSpec, save_stream

    spec = StreamSpec("text", 512, "cut", STEP_TOKENS // 512, 13, 0, 1, 0.05, "uint16")
    place = Path(folder, f"stream-{hash_bytes(path.encode())[:8]}")
    options = ExampleOptions(Path(tokenizer), 0, None, True)
    save_stream(place, StreamFile(tuple(find([path])), options, tokenizer, spec, "2026-11-21"))
    num_steps = 104
    rows = StreamClient(place, num_steps)
    rows.rows(num_steps)  # waits for every window
    figures = batches_of(rows, rows, num_steps)
    rows.end()
    return figures


def batches_of(rows, order, num_steps: int) -> dict[str, float]:
    """Seconds of this process's time for 20,000 tokens."""
    from headway.data.batching.batches import make_batch

    def one(step: int) -> int:
        made = make_batch(rows, order, step, leaves=8, micro_batch_tokens=4096, device="cpu")
        return made.num_tokens

    one(1)
    began_s = time.thread_time()
    tokens = sum(one(step) for step in range(1, num_steps + 1))
    return {"seconds": (time.thread_time() - began_s) * STEP_TOKENS / tokens}


PARTS = {
    "tokenizers": tokenizers,
    "survey": survey,
    "sample": sample,
    "seek": seek,
    "feed": feed,
    "flow": flow,
}


def main(part: str, *arguments: str) -> None:
    """Do one part."""
    figures = PARTS[part](*arguments)
    print(json.dumps({**figures, "peak": peak_bytes()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
