"""Compressed files give what was packed, bounded, or say where they break off."""

import bz2
import gzip
import itertools
import lzma
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from headway.base.errors import DataRefused
from headway.base.pulse import Pulse
from headway.data.formats.compressed import decompress, suffix_of
from headway.data.formats.detect import Item, read
from headway.data.formats.records import DamagedError, Record, Skipped
from headway.data.sources.find import find_sources

Pack = Callable[[bytes], bytes]
PACKS: dict[str, Pack] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}
every_kind = pytest.mark.parametrize("suffix", PACKS)
ROWS = b"".join(b'{"text": "row %d, %x"}\n' % (n, n**9) for n in range(2000))


def unpack(suffix: str, *pieces: bytes) -> bytes:
    return b"".join(decompress(suffix, iter(pieces), Pulse()))


def items(path: Path, *, skip_corrupt: bool = False) -> list[Item]:
    (source,) = find_sources([str(path)])
    return list(read(source, lambda _: None, Pulse(), skip_corrupt=skip_corrupt))


@every_kind
@given(
    parts=st.lists(st.binary(max_size=300), min_size=1, max_size=4),
    cuts=st.lists(st.integers(0, 500)),
    padding=st.sampled_from([b"", b"\0" * 4]),
)
def test_what_was_packed_comes_out_however_it_arrives(
    suffix: str, parts: list[bytes], cuts: list[int], padding: bytes
) -> None:
    packed = b"".join(PACKS[suffix](part) + padding for part in parts)  # members
    edges = [0, *sorted(min(cut, len(packed)) for cut in cuts), len(packed)]
    pieces = [packed[a:b] for a, b in itertools.pairwise(edges)]
    assert unpack(suffix, *pieces) == b"".join(parts)


@every_kind
def test_many_members_of_every_length_follow_one_another(suffix: str) -> None:
    draw = random.Random(1)
    parts = [draw.randbytes(draw.randrange(2000)) for _ in range(150)]
    assert unpack(suffix, b"".join(map(PACKS[suffix], parts))) == b"".join(parts)


@every_kind
def test_D09_cut_short_anywhere_it_is_damaged(suffix: str) -> None:
    packed = PACKS[suffix](b"some text, " * 20)
    for end in range(1, len(packed)):
        with pytest.raises(DamagedError, match=f"at byte {end}, inside"):
            unpack(suffix, packed[:end])
    assert unpack(suffix) == b""


@every_kind
def test_D09_a_flipped_bit_never_gives_other_bytes_unnoticed(suffix: str) -> None:
    whole, draw = ROWS[:5000], random.Random(9)
    packed = PACKS[suffix](whole)
    for _ in range(200):
        flipped = bytearray(packed)
        flipped[draw.randrange(len(packed))] ^= 1 << draw.randrange(8)
        try:
            assert unpack(suffix, bytes(flipped)) == whole
        except DamagedError:
            continue


@every_kind
@pytest.mark.parametrize("rest", [b"junk", b"\0junk"])
def test_D09_something_else_behind_the_end_is_damage(suffix: str, rest: bytes) -> None:
    with pytest.raises(DamagedError):
        unpack(suffix, PACKS[suffix](b"text") + rest + b"." * 100)


@every_kind
def test_D09_a_truncated_shard_is_refused_by_name_and_place_or_passed_over(
    suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"shard.jsonl{suffix}"
    member = PACKS[suffix](ROWS)
    end = len(member) * 3 // 2
    path.write_bytes((member + member)[:end])
    with pytest.raises(DataRefused) as refused:
        items(path)
    assert f"{path} is truncated at byte {end:,}" in refused.value.what
    assert [r.do.split()[0] for r in refused.value.remedies][1] == "--skip-corrupt"
    test = subprocess.run(refused.value.remedies[0].do, shell=True, capture_output=True)
    assert test.returncode != 0
    *rows, last = items(path, skip_corrupt=True)
    assert [r.line for r in rows if isinstance(r, Record)] == list(range(1, len(rows) + 1))
    assert len(rows) >= 2000  # of the member that is whole
    assert isinstance(last, Skipped)
    assert last.reason == "damaged"
    assert last.detail.endswith(f"{len(rows)} rows before that")


def test_long_distance_windows_are_read() -> None:
    window = zstandard.ZstdCompressionParameters(window_log=29, enable_ldm=True)
    packer = zstandard.ZstdCompressor(compression_params=window).compressobj()  # no content size
    packed = packer.compress(b"x" * 1000) + packer.flush()
    assert unpack(".zst", packed) == b"x" * 1000


def test_skippable_frames_hold_no_text() -> None:
    skippable = b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc"
    packed = zstandard.ZstdCompressor().compress(b"text")
    assert unpack(".zst", skippable + packed + skippable) == b"text"


BOMB = """
import re, sys
from pathlib import Path
from headway.base.pulse import Pulse
from headway.data.formats.compressed import decompress
from headway.data.formats.records import DamagedError
suffix, path = sys.argv[1:]
def most():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
before = most()
try:
    for _ in decompress(suffix, iter([open(path, "rb").read()]), Pulse()):
        pass
except DamagedError as error:
    print(error)
print(most() - before)
"""


@every_kind
def test_a_bomb_is_refused_in_little_memory(suffix: str, tmp_path: Path) -> None:
    bomb = PACKS[suffix](b"\0" * 150_000_000)
    (tmp_path / "bomb").write_bytes(bomb)
    words = [sys.executable, "-c", BOMB, suffix, str(tmp_path / "bomb")]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    assert told[0].startswith("expands more than 250 times: its first ")
    assert int(told[1]) < 100_000  # kB


def test_much_out_of_little_is_no_bomb_while_it_is_small() -> None:
    packed = bz2.compress(b"\0" * 50_000_000)
    assert len(packed) * 1000 < 50_000_000
    assert len(unpack(".bz2", packed)) == 50_000_000


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("a.jsonl.zst", ".zst"), ("A.GZ", ".gz"), ("a.jsonl", ""), ("gz", ""), ("s3://b/k.xz", ".xz")],
)
def test_the_name_tells(name: str, suffix: str) -> None:
    assert suffix_of(name) == suffix
