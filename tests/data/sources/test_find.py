"""Files, folders, patterns and streams are found in order, and read as they arrive."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from headway.base.errors import ComeBack, DataRefused, Problems, UsageError
from headway.base.pulse import Pulse, PulseReading, read_pulse
from headway.data.formats.detect import Item, Skipped, read
from headway.data.formats.records import Record, Rejected
from headway.data.sources.find import find_sources, open_seekable
from headway.data.sources.source import Span


def items(*names: object) -> list[Item]:
    """Everything that is read from the named sources."""
    sources = find_sources([str(name) for name in names])
    return [i for source in sources for i in read(source, lambda _: None, Pulse()) if i is not None]


def only(*names: object) -> Item:
    (item,) = items(*names)
    return item


def texts(*names: object) -> list[str | None]:
    return [item.text for item in items(*names) if isinstance(item, Record)]


# ---- find ------------------------------------------------------------------------------------


def test_sources_keep_the_order_given_and_a_folder_is_sorted_by_path(tmp_path: Path) -> None:
    folder = tmp_path / "code"
    for name in ("b.py", "a/z.py", "a/y.txt", "c.rs"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (tmp_path / "first.txt").write_text("first")
    assert texts(tmp_path / "first.txt", folder) == ["first", "a/y.txt", "a/z.py", "b.py", "c.rs"]


def test_a_folder_is_walked_without_hidden_files_and_caches(tmp_path: Path) -> None:
    for name in ("a.txt", ".hidden", ".git/config", "__pycache__/x.txt", "b/.secret"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert texts(tmp_path) == ["a.txt"]


def test_binary_and_undecodable_files_of_a_folder_are_passed_over_and_told(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("words")
    (tmp_path / "b.bin").write_bytes(b"\x89PNG\0\0")
    (tmp_path / "c.txt").write_bytes(b"caf\xe9")
    (tmp_path / "d.txt").write_bytes(b"")
    skipped = [item for item in items(tmp_path) if isinstance(item, Skipped)]
    assert [(Path(s.file).name, s.reason) for s in skipped] == [
        ("b.bin", "binary"),
        ("c.txt", "not UTF-8"),
        ("d.txt", "empty"),
    ]


def test_a_records_file_is_named_as_it_was_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.txt").write_text("a")
    monkeypatch.chdir(tmp_path)
    assert [source.name for source in find_sources(["folder", "./folder/a.txt"])] == [
        "folder/a.txt",
        "./folder/a.txt",
    ]


def test_a_pattern_is_expanded_in_order_also_below_folders(tmp_path: Path) -> None:
    for name in ("b/2.txt", "a/1.txt", "a/3.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert texts(tmp_path / "**/*.txt") == ["a/1.txt", "b/2.txt"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "a[1].txt").write_text("itself")
    assert texts(tmp_path / "a[1].txt") == ["itself"]


def test_a_missing_path_suggests_the_nearest_one_that_exists(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "notes.txt").write_text("x")
    for typed in ("data/note.txt", "dta/notes.txt"):
        with pytest.raises(UsageError, match="no such file or folder") as refusal:
            find_sources([str(tmp_path / typed)])
        assert refusal.value.remedies[0].do == str(tmp_path / "data" / "notes.txt")


def test_every_missing_path_is_told_at_once() -> None:
    with pytest.raises(Problems) as refusal:
        find_sources(["/nowhere/a", "/nowhere/b"])
    assert len(refusal.value.problems) == 2


def test_a_pattern_without_matches_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no file matches"):
        find_sources([str(tmp_path / "*.txt")])


def test_a_name_that_may_be_a_hubs_is_asked_of_it_and_what_is_like_it_here_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests' hub is offline."""
    (tmp_path / "notes").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ComeBack, match="the dataset note/mine") as refusal:
        find_sources(["note/mine"])
    assert refusal.value.remedies[0].do == "notes"


def test_local_data_needs_no_library_for_what_is_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("words")
    code = (
        "import sys; from headway.data.sources.find import find_sources, chunks;"
        "from headway.base.pulse import Pulse;"
        "list(chunks(find_sources([sys.argv[1]])[0], Pulse()));"
        "print(sorted({m.partition('.')[0] for m in sys.modules}"
        " & {'s3fs', 'botocore', 'datasets', 'huggingface_hub', 'httpx2', 'fsspec'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.txt")], capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_a_models_folder_is_no_data(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"\0")
    with pytest.raises(UsageError, match="is a model") as refusal:
        find_sources([str(tmp_path)])
    assert refusal.value.remedies[0].do == f"--model {tmp_path}"


def test_a_folder_without_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".hidden").write_text("x")
    with pytest.raises(DataRefused, match="contains no files"):
        find_sources([str(tmp_path)])


def test_a_folder_that_cannot_be_listed_is_refused_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "locked").mkdir()
    original = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return original(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UsageError, match=r"cannot read .*locked") as refusal:
        find_sources([str(tmp_path)])
    assert refusal.value.have == "Permission denied"


def test_a_named_file_that_cannot_be_opened_is_refused_and_a_found_one_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a")
    named, found = find_sources([str(path), str(tmp_path)])

    def locked(*_: object, **__: object) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", locked)
    with pytest.raises(UsageError, match="cannot read"):
        list(read(named, lambda _: None, Pulse()))
    assert list(read(found, lambda _: None, Pulse())) == [Skipped(str(path), "unreadable")]


def test_no_names_and_an_empty_name_are_refused() -> None:
    for names in ([], [""]):
        with pytest.raises(UsageError, match="no data given"):
            find_sources(names)


def test_a_name_that_is_no_utf8_can_be_printed_and_read(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.txt"
    with open(path, "wb") as file:  # noqa: PTH123 - a name of bytes
        file.write(b"words")
    record = only(tmp_path)
    assert isinstance(record, Record)
    assert record.text == "words"
    record.file.encode()  # does not raise


# ---- bytes ---------------------------------------------------------------------------------


def test_D10_a_file_that_changes_while_it_is_read_is_to_be_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("begun")
    (source,) = find_sources([str(path)])
    path.write_text("begun and gone on")
    with pytest.raises(ComeBack, match="changed while it was being read"):
        list(read(source, lambda _: None, Pulse()))


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["notes.txt", "rows.jsonl", "table.parquet", "unknown"])
def test_a_pipe_in_the_place_of_a_file_that_was_found_is_not_waited_for(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    path.write_text('{"text": "begun"}\n')
    (source,) = find_sources([str(path)])
    path.unlink()
    os.mkfifo(path)
    for span in (None, Span(0, 5)):
        with pytest.raises(ComeBack, match="changed while it was being read"):
            list(read(source, lambda _: None, Pulse(), span=span))
    with pytest.raises(ComeBack):
        open_seekable(source, Pulse())


def test_each_file_of_a_folder_shows_in_the_pulse_while_it_is_listed(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"{number % 3}").mkdir(exist_ok=True)
        (tmp_path / f"{number % 3}" / f"{number}.txt").write_text("x")
    for name, beats in ((str(tmp_path), 60), (f"{tmp_path}/*/*.txt", 30)):
        pulse = Pulse(tmp_path / ".pulse")
        before = read_pulse(tmp_path / ".pulse")
        assert len(find_sources([name], pulse=pulse)) == 30
        after = read_pulse(tmp_path / ".pulse")
        assert before is not None
        assert after is not None
        assert after.done >= 30
        assert after.beat - before.beat >= beats  # each is listed in a folder, and looked at


def test_a_pattern_that_matches_nothing_beats_while_folders_are_searched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("headway.base.pulse._LOOK_S", 0.01)
    path = tmp_path / "pulse"
    pulse = Pulse(path)
    first = read_pulse(path)
    last: list[PulseReading | None] = [first]

    def search(*_: object, **__: object) -> Iterator[str]:
        until = time.monotonic() + 20
        while last[-1] == first and time.monotonic() < until:
            last.append(read_pulse(path))
        return iter(())

    monkeypatch.setattr("glob.iglob", search)
    with pytest.raises(UsageError, match="no file matches"):
        find_sources([f"{tmp_path}/**/*.nothing"], pulse=pulse)
    assert last[-1] != first


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


def test_a_pipe_is_read_as_it_is_written_and_each_wait_is_named(pipe: Path, tmp_path: Path) -> None:
    """The writer writes a line only when a watcher has seen that it is being waited for."""
    beat = tmp_path / "pulse"
    (source,) = find_sources([str(pipe)])
    read_items: list[Item] = []

    def reader() -> None:
        read_items.extend(read(source, lambda _: None, Pulse(beat)))

    thread = threading.Thread(target=reader, daemon=True)
    thread.start()
    waits: list[PulseReading] = [_until_waiting(beat, None)]
    with pipe.open("wb", buffering=0) as file:
        for line in (b'{"text": "one"}\n', b'{"text": "tw', b'o"}\n'):
            file.write(line)
            waits.append(_until_waiting(beat, waits[-1]))
    thread.join(10)
    assert {wait.waiting for wait in waits} == {str(pipe)}
    assert [item.text for item in read_items if isinstance(item, Record)] == ["one", "two"]
    assert len(read_items) == 2


def _until_waiting(beat: Path, last: PulseReading | None) -> PulseReading:
    """The first reading of a wait that began after the last one."""
    since = last.waiting_since if last else 0.0
    end_s = time.monotonic() + 10
    while time.monotonic() < end_s:
        reading = read_pulse(beat) if beat.exists() else None
        if reading and reading.waiting and reading.waiting_since > since:
            return reading
        time.sleep(0.001)
    raise AssertionError("the reader does not wait")


def test_standard_input_is_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = os.dup(0)
    out, into = os.pipe()
    os.write(into, b"words from a pipe\r\n")
    os.close(into)
    os.dup2(out, 0)
    try:
        assert only("-") == Record("standard input", 1, text="words from a pipe\n")
    finally:
        os.dup2(kept, 0)
        os.close(out)
        os.close(kept)


def test_an_empty_pipe_is_rejected(pipe: Path) -> None:
    writer = threading.Thread(target=pipe.write_bytes, args=(b"",))
    writer.start()
    assert only(pipe) == Rejected(str(pipe), 1, "empty", "0 B")
    writer.join(10)


def test_a_stream_is_never_recognised_again(pipe: Path) -> None:
    (source,) = find_sources([str(pipe)])
    assert source.is_stream
    assert source.stamp == ()


@pytest.mark.parametrize(
    "address",
    [
        *("s3://user:{}@b/x", "s3://AKIA:a/{}@b/x", "ftp://user:{}@h/x", "http:/user:{}@h/x"),
        *("https:user:{}@h/x", "https://user:{}@/x", "https://h:{}/x", "sftp://h/x?token={}"),
        *("gs://b/x?X-Goog-Signature={}", "hf://user:{}@owner/name", "x.csv?sig={}", "user:{}@h:x"),
    ],
)
def test_f62_a_refused_address_is_told_without_its_credentials(address: str) -> None:
    with pytest.raises((UsageError, DataRefused, ComeBack)) as refused:
        find_sources([address.replace("{}", "canary")])
    assert "canary" not in str(refused.value)
    assert "canary" not in repr(refused.value.remedies)


def test_f62_a_file_that_is_named_for_a_signed_address_is_shown_without_signature(
    tmp_path: Path,
) -> None:
    (tmp_path / "x.csv?X-Amz-Signature=canary&b=1").write_text("text\nHello\n")
    for name in (tmp_path, tmp_path / "x.csv?X-Amz-Signature=canary&b=1"):
        (source,) = find_sources([str(name)])
        assert source.name == f"{tmp_path}/x.csv?X-Amz-Signature=...&b=1"
        assert source.path is not None
        assert source.path.exists()
