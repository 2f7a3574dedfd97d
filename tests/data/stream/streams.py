"""Small streams, for the tests of their rows."""

from pathlib import Path

from headway.data.examples.maker import ExampleOptions
from headway.data.examples.tokenizer import byte_level
from headway.data.sources.find import find_sources
from headway.data.stream.spec import StreamFile, StreamSpec, save_stream

WINDOWS = 6
HELD = 3
BATCH, WINDOW_STEPS = 4, 2
STEPS = WINDOWS * WINDOW_STEPS


def stream(folder: Path, text: str | None = None) -> Path:
    store = folder / "store"
    store.mkdir(parents=True)
    byte_level().save(store)
    rows = (f'{{"text": "{n:04d} a row of some length"}}\n' for n in range(400))
    data = folder / "data.jsonl"
    data.write_text(text or "".join(rows))
    spec = StreamSpec("text", 32, "cut", BATCH, WINDOW_STEPS, HELD, 1, 0.5, "uint16")
    options = ExampleOptions(None, 300, None, True)
    file = StreamFile(tuple(find_sources([str(data)])), options, str(store), spec)
    save_stream(folder / "stream", file)
    return folder / "stream"
