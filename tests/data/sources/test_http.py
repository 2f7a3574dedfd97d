"""What is read over HTTP is the file, whatever happens on the way, and every wait has a name."""

import contextlib
import gzip
import io
import random
import types
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from tests.web_server import FAULTS, Fault, WebServer, serving

from headway.base.addresses import hide_credentials
from headway.base.errors import ComeBack, Refusal, UsageError
from headway.base.network.retry import RetryPolicy
from headway.base.pulse import Pulse
from headway.data.formats.detect import read
from headway.data.formats.records import Record
from headway.data.sources import http as web
from headway.data.sources.find import chunks, find_sources, open_seekable
from headway.data.sources.source import Source

QUICK = RetryPolicy(
    max_attempts=50, stall_timeout_s=0.05, initial_backoff_s=0.001, max_backoff_s=0.01
)
CONTENT = b"".join(b'{"text": "row %d"}\n' % n for n in range(2000))


class Watched(Pulse):
    """A pulse that remembers what was waited for.

    Attributes:
        log: waits, and whatever a test adds.
        beats_of: by the name of a wait, the beats of each one.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.log: list[str | bytes] = []
        self.beats = 0
        self.beats_of: defaultdict[str, list[int]] = defaultdict(list)
        super().__init__(path)

    @property
    def waits(self) -> list[str]:
        return [what for what in self.log if isinstance(what, str)]

    @contextlib.contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        self.log.append(what)
        before = self.beats
        try:
            with super().waiting(what):
                yield
        finally:
            self.beats_of[what].append(self.beats - before)

    def beat(self) -> None:
        self.beats += 1
        super().beat()


def whole(source: Source, pulse: Pulse | None = None, begin: int = 0, retry=QUICK) -> bytes:
    pieces = web.chunks(source, pulse or Pulse(), begin, retry=retry)
    return b"".join(pieces)


@pytest.fixture
def server() -> Iterator[WebServer]:
    with serving(CONTENT) as one:
        yield one


# ---- faults ----------------------------------------------------------------------------------


@pytest.mark.parametrize("etag", ['"one"', ""], ids=["etag", "nothing told"])
@pytest.mark.parametrize("seed", range(25))
def test_f56_ten_faults_on_the_way_lose_and_repeat_no_byte(
    server: WebServer, seed: int, etag: str
) -> None:
    print("seed", seed)
    chance = random.Random(seed)
    server.etag = etag
    source = web.find(server.url(), Pulse())
    faults = [Fault(chance.choice(FAULTS), chance.randrange(len(CONTENT))) for _ in range(10)]
    for fault in faults:
        fault.headers = {"Retry-After": "0"} if fault.kind == "429" else {}
    server.script = list(faults)
    while server.script:  # what only slows or repeats brings the end before the script is over
        assert whole(source) == CONTENT


def test_f56_it_goes_on_at_the_byte_where_it_stopped(server: WebServer) -> None:
    source = web.find(server.url(), Pulse())
    server.script = [Fault("short", 1000), Fault("reset", 500), Fault("503")]
    assert whole(source) == CONTENT
    asked = [headers.get("Range") for _, headers in server.requests[1:]]
    assert asked[0] is None
    assert asked[1] == "bytes=1000-"
    assert len(asked) == 4
    assert 1000 <= int((asked[2] or "").strip("bytes=-")) <= 1500  # a reset may lose what was sent
    assert asked[3] == asked[2]


def test_a_part_from_a_byte_on_is_that_part(server: WebServer) -> None:
    source = web.find(server.url(), Pulse())
    server.script = [Fault("short", 100)]
    assert whole(source, begin=777) == CONTENT[777:]
    assert whole(source, begin=len(CONTENT)) == b""
    server.script = [Fault("whole")]
    assert whole(source, begin=777) == CONTENT[777:]


def test_an_empty_file_is_empty(server: WebServer) -> None:
    server.content = b""
    source = web.find(server.url(), Pulse())
    assert (source.size, whole(source)) == (0, b"")


CHANGES = {
    "etag": (CONTENT, '"two"'),
    "size": (CONTENT + b"more", '"one"'),
    "both": (b"other", '"two"'),
}


@pytest.mark.parametrize("how", CHANGES)
@pytest.mark.parametrize("at", [0, 1000], ids=["at once", "on the way"])
def test_f56_a_file_that_changed_is_not_patched_together(
    server: WebServer, how: str, at: int
) -> None:
    source = web.find(server.url(), Pulse())
    if at:
        server.script = [Fault("short", at)]
    pieces = web.chunks(source, Pulse(), retry=QUICK)
    first = next(pieces) if at else b""
    server.content, server.etag = CHANGES[how]
    with pytest.raises(ComeBack, match="changed while it was being read"):
        list(pieces)
    assert CONTENT.startswith(first)


@pytest.mark.parametrize("changed", [b"X" + CONTENT[1:], CONTENT[:500]])
def test_f56_a_file_of_which_nothing_is_told_is_compared(server: WebServer, changed: bytes) -> None:
    """The server gives no ETag and no length: what was read before is read again."""
    server.etag = ""
    source = web.find(server.url(), Pulse())
    source = Source(source.name, None, address=source.address)
    assert source.stamp == ()
    server.script = [Fault("short", 1000)]
    pieces = web.chunks(source, Pulse(), retry=QUICK)
    next(pieces)
    server.content = changed
    with pytest.raises(ComeBack, match="changed while it was being read"):
        list(pieces)


def test_f56_a_server_that_never_recovers_ends_the_reading_with_its_cause(
    server: WebServer,
) -> None:
    source = web.find(server.url(), Pulse())
    server.script = [Fault("503")] * 100
    pulse = Watched()
    retry = RetryPolicy(max_attempts=3, initial_backoff_s=0.001)
    with pytest.raises(ComeBack) as refusal:
        whole(source, pulse, retry=retry)
    assert "503 Service Unavailable, 3 times in a row" in refusal.value.have
    assert len(server.requests) == 1 + 3
    retries = [wait for wait in pulse.waits if "retrying" in wait]
    assert retries[0] == ("127.0.0.1: 503 Service Unavailable, retrying in 0.0 s (2 of 3)")
    assert retries[1].endswith("(3 of 3)")


def test_f56_attempts_that_bring_something_do_not_count(server: WebServer) -> None:
    source = web.find(server.url(), Pulse())
    server.script = [Fault("short", 10) for _ in range(20)]
    assert whole(source, retry=RetryPolicy(max_attempts=2, initial_backoff_s=0.001)) == CONTENT


def test_d12_a_stall_is_waited_for_by_name_and_then_has_a_cause(
    server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headway.base.network.retry._POLL_S", 0.02)
    source = web.find(server.url(), Pulse())
    server.script = [Fault("stall", 100), Fault("stall")]
    pulse = Watched()
    with pytest.raises(ComeBack, match=r"no data for 0\.4 s"):
        whole(source, pulse, retry=RetryPolicy(2, 0.4, 0.2, random=lambda: 1.0))
    stall = "127.0.0.1"
    pause = "127.0.0.1: no data for 0.4 s, retrying in 0.2 s (2 of 2)"
    assert set(pulse.waits) == {stall, pause}
    # it looks up during each wait, not only when one begins and ends
    assert max(pulse.beats_of[stall]) >= 5
    assert max(pulse.beats_of[pause]) >= 4


def test_what_was_gathered_is_handed_over_before_every_wait(server: WebServer) -> None:
    source = web.find(server.url(), Pulse())
    server.script = [Fault("short", 100), Fault("503")]
    pulse = Watched()
    with pulse.calling_before_waits(lambda: pulse.log.append(b"handed over")):
        for piece in web.chunks(source, pulse, retry=QUICK):
            pulse.log.append(piece)
    waits = [n for n, what in enumerate(pulse.log) if isinstance(what, str)]
    assert any("retrying" in str(pulse.log[n]) for n in waits)
    assert all(pulse.log[n + 1] == b"handed over" for n in waits)


@pytest.mark.parametrize(
    ("said", "asked_s"),
    [
        (None, None),
        ("7", 7.0),
        ("soon", None),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 40.0),
        ("Thu, 01 Jan 1970 00:00:10 GMT", 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(said: str | None, asked_s: float | None) -> None:
    assert web._retry_after_s(said, 60.0) == asked_s


def test_a_server_that_asks_for_an_hour_is_left_alone(server: WebServer) -> None:
    server.script = [Fault("429", headers={"Retry-After": "3600"})]
    with pytest.raises(ComeBack, match="429 Too Many Requests") as refusal:
        web.find(server.url(), Pulse())
    assert "the server asks to wait 1 h" in refusal.value.have


# ---- mutants: each line is there for a fault -------------------------------------------------

MUTANTS = {
    "forgets where it stopped": ("begun, ended = max(0, at - first), ", "begun, ended = 0, "),
    "believes every end": ("        if goal is not None and at < goal:\n", "        if False:\n"),
    "takes another file for it": ("if stamp != source.stamp or", "if False and stamp or"),
    "takes other bytes for it": ("if again.digest() != self.seen.digest():", "if False:"),
    "takes a shorter one for it": (
        "        if first < at:  # the complete file is now shorter",
        "        if False:",
    ),
}


def mutant(monkeypatch: pytest.MonkeyPatch, old: str, new: str) -> None:
    """`web` with a line changed, from now on."""
    source = Path(web.__file__).read_text()
    assert source.count(old) == 1
    changed = types.ModuleType("headway.data.sources.http")
    # dataclasses and annotations look their module up by its name
    exec(compile(source.replace(old, new), "mutant", "exec"), changed.__dict__)
    monkeypatch.setattr(web, "_Download", changed._Download)


@pytest.mark.parametrize("kind", MUTANTS)
def test_f56_each_mutant_is_found(
    server: WebServer, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def campaign() -> None:
        """The tests above, in small."""
        for fault in (Fault("whole"), Fault("less", 700)):
            server.content, server.etag = CONTENT, '"one"'
            source = web.find(server.url(), Pulse())
            server.script = [Fault("short", 1000), fault]
            assert whole(source) == CONTENT
        for changed, etag in ((b"X" + CONTENT[1:], ""), (CONTENT[:500], ""), (CONTENT, '"two"')):
            server.content, server.etag = CONTENT, etag and '"one"'
            source = web.find(server.url(), Pulse())
            source = source if etag else Source(source.name, None, address=source.address)
            server.script = [Fault("short", 1000)]
            pieces = web.chunks(source, Pulse(), retry=QUICK)
            next(pieces)
            server.content, server.etag = changed, etag
            with pytest.raises(ComeBack, match="changed"):
                list(pieces)

    campaign()
    mutant(monkeypatch, *MUTANTS[kind])
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        campaign()


# ---- at the plan -----------------------------------------------------------------------------


def test_an_address_is_found_with_its_size_and_what_tells_its_content(server: WebServer) -> None:
    (source,) = find_sources([server.url("a/b.jsonl")])
    assert source.name == server.url("a/b.jsonl")
    assert (source.size, source.stamp) == (len(CONTENT), ('"one"', len(CONTENT)))
    assert not source.is_stream
    assert b"".join(p for p in chunks(source, Pulse(), 5) if p) == CONTENT[5:]


@pytest.mark.parametrize("status", ["401", "403", "404", "410"])
def test_what_the_server_refuses_is_refused_at_the_plan(server: WebServer, status: str) -> None:
    server.script = [Fault(status)]
    with pytest.raises(UsageError, match=status) as refusal:
        find_sources([server.url()])
    error = refusal.value
    assert error.have
    assert error.need
    assert error.remedies[0].do == f"curl -sSIL {server.url()}"
    assert len(server.requests) == 1  # it will not pass by itself


def test_a_web_page_is_no_data(server: WebServer) -> None:
    server.extra = {"Content-Type": "text/html; charset=utf-8"}
    with pytest.raises(UsageError, match="is a web page, not data"):
        find_sources([server.url()])
    assert find_sources([server.url("page.html")])


def test_a_host_that_is_not_there_is_to_be_tried_again() -> None:
    with serving(b"") as gone:
        address = gone.url()
    quick = RetryPolicy(max_attempts=2, initial_backoff_s=0.001)
    with pytest.raises(ComeBack, match="cannot fetch") as refusal:
        web.find(address, Pulse(), quick)
    assert "127.0.0.1: " in refusal.value.have


def test_a_kind_of_address_that_is_not_read_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="htps:// addresses are not supported") as refusal:
        find_sources(["htps://example.org/a.jsonl"])
    assert refusal.value.remedies[0].do == "https://..."


def test_a_broken_address_is_refused() -> None:
    with pytest.raises(UsageError, match="is not a valid address"):
        find_sources(["http://[::1/a.jsonl"])


# ---- secrets ---------------------------------------------------------------------------------


def test_f62_a_password_and_a_signature_are_in_no_name_error_or_wait(server: WebServer) -> None:
    address = server.url("data.jsonl?X-Signature=canary", user="me:canary@")
    pulse = Watched()
    (source,) = find_sources([address], pulse=pulse)
    told = [source.name, repr(source)]
    faults = [[Fault(kind)] * 50 for kind in ("404", "403", "503", "drop", "reset")]
    retry = RetryPolicy(max_attempts=2, stall_timeout_s=0.2, initial_backoff_s=0.001)
    for script in faults:
        server.script = list(script)
        with pytest.raises(Refusal) as refusal:
            whole(source, pulse, retry=retry)
        told += [str(refusal.value), repr(refusal.value.finding())]
    server.script = []
    server.etag = '"two"'
    with pytest.raises(Refusal) as refusal:
        whole(source, pulse)
    told.append(str(refusal.value))
    assert "canary" not in "\n".join(told + pulse.waits)
    assert dict(server.requests[0][1])["Authorization"].startswith("Basic ")


def test_f62_a_password_is_not_sent_to_another_host(server: WebServer) -> None:
    server.script = [
        Fault("302", headers={"Location": server.url("moved.jsonl", host="localhost")})
    ]
    web.find(server.url(user="me:canary@"), Pulse())
    first, second = (headers for _, headers in server.requests)
    assert "Authorization" in first
    assert "Authorization" not in second


@pytest.mark.parametrize(
    ("typed", "seen"),
    [
        ("https://u:p@h.org/a/b.jsonl?sig=x#y", "https://h.org/a/b.jsonl"),
        ("HTTP://h.org:80/a@b", "HTTP://h.org:80/a@b"),
        ("notes?.txt", "notes?.txt"),
        ("s3://bucket/a?b", "s3://bucket/a?b"),
    ],
)
def test_f62_an_address_is_shown_without_password_and_query(typed: str, seen: str) -> None:
    assert hide_credentials(typed) == seen


# ---- anywhere in it --------------------------------------------------------------------------


def test_a_file_is_read_anywhere_in_it(server: WebServer) -> None:
    (source,) = find_sources([server.url("table.parquet")])
    with open_seekable(source, Pulse()) as file:
        assert file.seek(-10, 2) == len(CONTENT) - 10
        assert file.read() == CONTENT[-10:]
        file.seek(1000)
        server.script = [Fault("short", 5)]
        assert file.read(3000) == CONTENT[1000:4000]
        assert file.tell() == 4000
        assert file.read(0) == b""
        file.seek(0)
        assert file.read() == CONTENT


TEXTS = [f"row {n} of the table" for n in range(3000)]


def _packed(name: str) -> bytes:
    lines = "".join(f'{{"text": "{text}"}}\n' for text in TEXTS).encode()
    if name.endswith(".gz"):
        return gzip.compress(lines)
    table, file = (
        pyarrow.table({"text": TEXTS, "unread": [text * 9 for text in TEXTS]}),
        io.BytesIO(),
    )
    pyarrow.parquet.write_table(table, file, row_group_size=500, compression="none")
    return file.getvalue()


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.parquet"])
def test_f56_every_row_of_a_packed_file_is_read_once(
    server: WebServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web.chunks, "__defaults__", (*web.chunks.__defaults__[:-1], QUICK))
    server.content = _packed(name)
    (source,) = find_sources([server.url(name)])
    server.script = [Fault("short", 700), Fault("503"), Fault("reset", 900)]
    num_bytes: list[int] = []
    items = list(read(source, lambda piece: num_bytes.append(len(piece)), Pulse()))
    assert [item.text for item in items if isinstance(item, Record)] == TEXTS
    assert not server.script
    if name == "a.parquet":  # of the other column nothing is fetched
        assert sum(num_bytes) < len(server.content) / 2


def test_a_server_of_whole_files_cannot_be_read_anywhere(server: WebServer) -> None:
    (source,) = find_sources([server.url("table.parquet")])
    server.script = [Fault("whole")]
    with pytest.raises(UsageError, match="from start to end") as refusal:
        open_seekable(source, Pulse())
    assert refusal.value.remedies[0].do == f"curl -Lo data.parquet {server.url('table.parquet')}"
