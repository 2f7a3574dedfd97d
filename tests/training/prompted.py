"""Conversations that begin alike, for the tests of sharing."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from tests.helpers import chat_store

from headway.data.survey.store import Store

OWNS = (2, 9, 4, 7, 3, 8, 5, 6) * 4  # 32 answers; all but the last token of each are inputs
SYSTEM = 200
ALL = len(OWNS) * SYSTEM + sum(OWNS) - len(OWNS)  # input tokens


def prompted(folder: Path, system: int = SYSTEM, owns: Iterable[int] = OWNS) -> Store:
    """Conversations with one system prompt, of so many tokens, and answers that begin unlike."""
    store = chat_store(folder, *["." * system + "x" * own for own in owns])
    ids = np.array(store.ids)
    for number, begin in enumerate(store.starts[:-1]):
        ids[begin : begin + system] = np.arange(system) * 7 % 100
        ids[begin + system] = 113 + number
    ids.tofile(folder / "ids.bin")
    return Store(folder)
