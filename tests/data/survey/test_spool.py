"""Records come out of the spool as they went in."""

import tempfile

from headway.base.pulse import Pulse
from headway.data.formats.records import Record
from headway.data.survey.spool import Spool

CALL = {"type": "function", "function": {"name": "f", "arguments": {"n": 10**25, "x": 0.1}}}
RECORDS = [
    Record("a.txt", 1, text="caf\u00e9 \U0001f600\n", ends=False),
    Record("a.txt", 9, text="\0", begins=False),
    Record(
        "b.jsonl",
        2,
        messages=({"role": "assistant", "content": None, "tool_calls": [CALL], "train": False},),
        tools=({"name": "f"},),
        shape="OpenAI messages",
    ),
    Record("c.jsonl", 3, ids=(1, 2, 3), labels=(-100, 2, -100), shape="tokens"),
]


def test_every_kind_of_record_comes_back_as_it_was() -> None:
    with tempfile.SpooledTemporaryFile() as file:
        spool = Spool(file, Pulse())
        spool.take(RECORDS)
        for _ in range(2):
            assert list(spool.records()) == RECORDS
            assert [one.shape for one in spool.records()] == [one.shape for one in RECORDS]
        assert spool.text_bytes == len("caf\u00e9 \U0001f600\n\0".encode())
