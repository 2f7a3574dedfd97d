"""Sources become a store once, are looked up afterwards, or refused with what would mend them."""

import json
import os
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headway.base.errors import Cause, DataRefused, MachineError, UsageError
from headway.base.pulse import Pulse, read_pulse
from headway.data.examples import maker as making_module
from headway.data.examples.chatml import CHATML
from headway.data.examples.maker import ExampleOptions
from headway.data.examples.tokenizer import DOCUMENT_END, TURN_END, byte_level, load
from headway.data.formats.records import Record
from headway.data.sources.find import find_sources
from headway.data.survey import reading as reading_module
from headway.data.survey import spool as spool_module
from headway.data.survey import survey as survey_module
from headway.data.survey.store import Store
from headway.data.survey.survey import survey

TINY = Path(__file__).parents[1] / "tiny.txt"
CHAT = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}
QUESTION = {"messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def look(cache: Path, *names: object, pulse: Pulse | None = None, **more: Any) -> Store:
    options: dict[str, Any] = {"tokenizer": None, "vocab_size": 300, "template": None}
    options["assistant_only"] = True
    options |= {
        name: more.pop(name) for name in tuple(more) if name in ExampleOptions.__dataclass_fields__
    }
    settings: dict[str, Any] = {"max_rejected": 0.05, "exact_bytes": 64_000_000, **more}
    sources = find_sources([str(name) for name in names])
    return survey(
        sources, ExampleOptions(**options), cache=cache, pulse=pulse or Pulse(), **settings
    )


def jsonl(path: Path, *rows: object) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(line + "\n" for line in lines))
    return path


def saved(folder: Path, template: str | None = None) -> Path:
    """A tokenizer's folder."""
    folder.mkdir()
    made = byte_level()
    (made.with_template(template) if template else made).save(folder)
    return folder


def decoded(store: Store) -> list[str]:
    words = load(store.folder)
    pieces = [store.ids[a:b] for a, b in zip(store.starts, store.starts[1:], strict=False)]
    return [words.decode(piece, special=True) for piece in pieces]


def refused(cache: Path, *names: object, **more: Any) -> DataRefused:
    with pytest.raises(DataRefused) as refusal:
        look(cache, *names, **more)
    assert stores(cache) == [] or "max_rejected" in str(refusal.value)
    assert all(remedy.do for remedy in refusal.value.remedies)
    return refusal.value


def stores(cache: Path) -> list[str]:
    """What lies in the cache beside the index; leftovers of half-made stores too."""
    return [p.name for p in cache.iterdir() if p.name != ".aliases"] if cache.exists() else []


def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the sources that are read from now on."""
    names: list[str] = []
    original = reading_module.read

    def noting(source: Any, *arguments: Any, **more: Any) -> Any:
        names.append(source.name)
        return original(source, *arguments, **more)

    monkeypatch.setattr(reading_module, "read", noting)
    return names


# ---- what is found ---------------------------------------------------------------------------


def test_a_small_text_is_counted_in_bytes(cache: Path) -> None:
    store = look(cache, TINY)
    found = store.survey
    size = TINY.stat().st_size
    assert (found.kind, found.bytes, found.characters) == ("text", size, size)
    assert (found.records_read, found.records_accepted, found.records_rejected) == (1, 1, {})
    assert (found.tokens, found.trained_tokens) == (size + 1, size)
    assert (found.lengths.max, found.lengths.mean) == (size + 1, size + 1)
    assert (found.tokenizer_from, found.vocab_size) == ("byte-level", 259)
    assert found.end_id == load(store.folder).end_id
    assert found.marked_example.startswith("T\u00abhe ferry")
    assert decoded(store) == [TINY.read_text() + DOCUMENT_END]
    assert store.place(0) == f"{TINY}:1"


def test_a_megabyte_of_text_gets_a_tokenizer_of_its_own(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survey_module, "BYTE_LEVEL_BELOW", 5_000)
    (tmp_path / "twice.txt").write_text(TINY.read_text() * 2)
    store = look(cache, tmp_path / "twice.txt")
    assert store.survey.tokenizer_from == "trained here, 300 tokens"
    assert store.survey.vocab_size == 300
    assert decoded(store) == [TINY.read_text() * 2 + DOCUMENT_END]


def test_a_tokenizer_learns_evenly_from_large_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "TRAINING_BYTES", 10)
    with tempfile.SpooledTemporaryFile() as file:
        spool = spool_module.Spool(file, Pulse())
        spool.take(Record("f", n, text=f"{n:05}") for n in range(8))
        assert list(spool.sample()) == ["00000", "00004"]
        assert [record.line for record in spool.records()] == list(range(8))


def test_rows_of_text_keep_their_places(cache: Path, tmp_path: Path) -> None:
    rows = jsonl(tmp_path / "a.jsonl", {"text": "one"}, "", {"text": "three"})
    store = look(cache, rows, TINY)
    assert [store.place(n) for n in range(3)] == [f"{rows}:1", f"{rows}:3", f"{TINY}:1"]


def test_T07_conversations_without_a_tokenizer_get_chatml_and_its_end(
    cache: Path, tmp_path: Path
) -> None:
    store = look(cache, jsonl(tmp_path / "a.jsonl", CHAT, CHAT))
    words = load(store.folder)
    found = store.survey
    assert found.kind == "conversations"
    assert words.chat_template == CHATML
    assert (words.end_token, found.end_id) == (TURN_END, words.end_id)
    assert found.template_from == "ChatML"
    assert found.marked_example.endswith("assistant\n\u00abho<|im_end|>\u00bb\n")
    assert store.trained is not None
    assert words.decode(store.ids[store.trained], special=True) == "ho<|im_end|>" * 2
    assert found.trained_tokens == 6
    assert found.characters == 8


def test_a_models_own_template_and_tokenizer_are_used_and_kept(cache: Path, tmp_path: Path) -> None:
    own = "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"
    folder = saved(tmp_path / "model", own)
    store = look(cache, jsonl(tmp_path / "a.jsonl", CHAT), tokenizer=folder)
    assert decoded(store) == ["hi<|endoftext|>ho<|endoftext|>"]
    assert store.survey.template_from == "its own"
    assert store.survey.tokenizer_from == str(folder)
    assert store.survey.end_id == load(folder).end_id
    for path in folder.iterdir():
        assert (store.folder / path.name).read_bytes() == path.read_bytes()


def test_a_given_template_is_used_and_saved(cache: Path, tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", "{{ messages[1].content }}")
    given = "{% for m in messages %}[{{ m.content }}]{% endfor %}"
    rows = jsonl(tmp_path / "a.jsonl", CHAT)
    store = look(cache, rows, tokenizer=folder, template=given)
    assert decoded(store) == ["[hi][ho]"]
    assert load(store.folder).chat_template == given
    assert look(cache, rows, tokenizer=folder, template=CHATML).folder != store.folder


def test_all_tokens_are_trained_when_asked(cache: Path, tmp_path: Path) -> None:
    rows = jsonl(tmp_path / "a.jsonl", CHAT)
    all_of_it = look(cache, rows, assistant_only=False).survey
    assert all_of_it.trained_tokens == all_of_it.tokens - 1
    assert look(cache, rows).survey.trained_tokens == 3


def test_D04_the_ledger_adds_up(cache: Path, tmp_path: Path) -> None:
    rows = jsonl(tmp_path / "a.jsonl", CHAT, "{half", QUESTION, {"foo": 1}, CHAT, QUESTION)
    store = look(cache, rows, max_rejected=0.7)
    found = store.survey
    assert found.records_read == 6
    assert found.records_accepted == len(store) == 2
    assert found.records_rejected == {
        "not JSON": 1,
        "no text or messages": 1,
        "no trained token": 2,
    }
    lines = (store.folder / "rejected.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["line"] for line in lines) == [2, 3, 4, 6]


def test_files_of_a_folder_that_are_no_text_are_counted_apart(cache: Path, tmp_path: Path) -> None:
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "a.py").write_text("print()\n")
    (folder / "b.png").write_bytes(b"\x89PNG\0")
    (folder / "c.py").write_bytes(b"")
    found = look(cache, folder).survey
    assert (found.records_read, found.records_rejected) == (1, {})
    assert {one.reason: one.num for one in found.passed_over} == {"binary": 1, "empty": 1}


def test_T09_large_vocabularies_do_not_overflow_the_store(cache: Path, tmp_path: Path) -> None:
    folder = saved(tmp_path / "model")
    plain = json.loads((folder / "tokenizer.json").read_text())
    plain["model"]["vocab"]["\u0120"] = 70_000  # the space
    (folder / "tokenizer.json").write_text(json.dumps(plain))
    (tmp_path / "a.txt").write_text("a b")
    store = look(cache, tmp_path / "a.txt", tokenizer=folder)
    assert store.survey.max_id == 70_000
    assert store.survey.vocab_size == 70_001
    assert decoded(store) == ["a b<|endoftext|>"]


# ---- the cache -------------------------------------------------------------------------------


def test_D18_unchanged_sources_are_not_read_again(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = look(cache, TINY)
    names = opened(monkeypatch)
    second = look(cache, TINY)
    assert names == []
    assert second.folder == first.folder
    assert second.survey == first.survey


def test_D17_changed_content_is_read_again_whatever_its_size_and_time(
    cache: Path, tmp_path: Path
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    first = look(cache, path)
    time.sleep(0.02)  # longer than a tick of the file system's clock
    path.write_text("behind")
    os.utime(path, ns=times)
    second = look(cache, path)
    assert decoded(second) == ["behind<|endoftext|>"]
    assert second.survey.fingerprint != first.survey.fingerprint


def test_a_touched_file_is_the_same_store_without_being_tokenized_again(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("words")
    first = look(cache, path)
    names = opened(monkeypatch)
    for number in range(2):
        os.utime(path, ns=(number, number))
        assert look(cache, path).folder == first.folder
    kept = path.rename(tmp_path / "kept.txt")
    path.write_bytes(kept.read_bytes())  # another file in its place
    assert look(cache, path).folder == first.folder
    assert names == []
    path.write_text("wordz")
    assert decoded(look(cache, path)) == ["wordz<|endoftext|>"]
    assert names == [str(path)]


def test_two_files_of_which_one_changed_are_read_again(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = tmp_path / "a.txt", tmp_path / "b.txt"
    for path in paths:
        path.write_text(path.stem)
    look(cache, *paths)
    names = opened(monkeypatch)
    os.utime(paths[0], ns=(1, 1))
    look(cache, *paths)
    assert names == []
    paths[1].write_text("c")
    assert len(decoded(look(cache, *paths))) == 2
    assert names == [str(path) for path in paths]


def test_a_renamed_file_is_the_same_data_under_its_new_name(cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("words")
    first = look(cache, path)
    second = look(cache, path.rename(tmp_path / "b.txt"))
    assert second.survey.fingerprint == first.survey.fingerprint
    assert second.place(0) == f"{tmp_path / 'b.txt'}:1"


def test_the_fingerprint_knows_order_and_borders(cache: Path, tmp_path: Path) -> None:
    for name, text in (("1", "ab"), ("2", "c"), ("3", "a"), ("4", "bc")):
        (tmp_path / name).write_text(text)
    prints = [
        look(cache, *(tmp_path / name for name in names)).survey.fingerprint
        for names in ("12", "21", "34", "1")
    ]
    assert len(set(prints)) == 4


@pytest.mark.parametrize("other", [{"vocab_size": 301}, {"assistant_only": False}])
def test_D17_other_settings_give_another_store(other: dict[str, Any], cache: Path) -> None:
    assert look(cache, TINY, **other).folder != look(cache, TINY).folder


def test_a_new_file_in_a_folder_is_seen(cache: Path, tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("a")
    assert len(look(cache, folder)) == 1
    (folder / "b.txt").write_text("b")
    assert len(look(cache, folder)) == 2


@pytest.mark.parametrize("name", ["ids.bin", "store.json", "starts.npy"])
def test_a_store_that_lost_bytes_is_made_again(name: str, cache: Path) -> None:
    first = look(cache, TINY)
    (first.folder / name).write_bytes(b"")
    again = look(cache, TINY)
    assert again.folder == first.folder
    assert decoded(again) == [TINY.read_text() + DOCUMENT_END]


def test_a_store_that_another_process_finished_first_is_taken(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = survey_module._build_store

    def slow(*arguments: Any) -> Any:
        monkeypatch.setattr(survey_module, "_build_store", original)
        look(cache, TINY)  # the other one, meanwhile
        return original(*arguments)

    monkeypatch.setattr(survey_module, "_build_store", slow)
    store = look(cache, TINY)
    assert stores(cache) == [store.folder.name]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupt_leaves_nothing_half_written(
    error: type[BaseException], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise error

    monkeypatch.setattr(making_module, "text_examples", interrupted)
    with pytest.raises(error):
        look(cache, TINY)
    assert stores(cache) == []


def test_a_cache_that_cannot_be_written_is_a_machine_error(cache: Path) -> None:
    cache.write_text("a file in its place")
    with pytest.raises(MachineError, match=r"cannot write .*cache") as refusal:
        look(cache, TINY)
    assert "XDG_CACHE_HOME" in refusal.value.remedies[0].do


def test_pruning_happens_when_a_store_is_made(cache: Path, tmp_path: Path) -> None:
    look(cache, TINY)
    left = cache / ".partial-left"
    left.mkdir()
    os.utime(left, (1, 1))
    (tmp_path / "a.txt").write_text("a")
    look(cache, tmp_path / "a.txt")
    assert not left.exists()
    assert len(stores(cache)) == 2


# ---- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "what"),
    [(b"", "is empty"), (b"\n\n  \n", "is blank"), (b"\0\1", "is binary")],
    ids=["F23 empty", "F23 blank", "binary"],
)
def test_a_file_with_nothing_in_it_is_refused(
    content: bytes, what: str, cache: Path, tmp_path: Path
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    assert refused(cache, path).what == f"{path} {what}"


def test_a_file_that_is_not_utf8_is_refused_with_a_line_that_mends_it(
    cache: Path, tmp_path: Path
) -> None:
    path = tmp_path / "a b.txt"
    path.write_bytes(b"caf\xe9 au lait\n")
    refusal = refused(cache, path)
    assert refusal.what == f"{path} is not UTF-8"
    assert "at offset" in refusal.have
    subprocess.run(refusal.remedies[0].do, shell=True, check=True)
    assert len(look(cache, f"{path}.utf8")) == 1


def test_D05_rows_without_known_columns_are_refused_with_a_line_that_mends_them(
    cache: Path, tmp_path: Path
) -> None:
    rows = jsonl(tmp_path / "a.jsonl", {"id": 1, "content": "x"}, {"id": 2, "content": "y"})
    refusal = refused(cache, rows)
    assert refusal.what == f"{rows}:1: no text or messages; none of 2 rows can be trained on"
    assert "keys: id, content" in refusal.have
    subprocess.run(refusal.remedies[0].do, shell=True, check=True)
    assert len(look(cache, shlex.split(refusal.remedies[0].do)[-1])) == 2


def test_D03_all_rows_rejected_is_refused_with_a_table(cache: Path, tmp_path: Path) -> None:
    rows = jsonl(tmp_path / "a.jsonl", "{half", "{half", {"text": ""})
    refusal = refused(cache, rows, max_rejected=1.0)
    assert refusal.what.startswith(f"{rows}:1: not JSON")
    first, second = refusal.have.splitlines()
    assert first.startswith(f"2 not JSON, first {rows}:1: ")
    assert second == f"1 empty text, first {rows}:3: ''"
    assert refusal.remedies[0].do == f"sed -n 1p {rows}"


def test_D06_too_many_rejected_rows_are_refused_with_a_table_and_a_limit_that_works(
    cache: Path, tmp_path: Path
) -> None:
    rows = jsonl(tmp_path / "a.jsonl", *[{"text": "fine"}] * 8, "{half", {"foo": 1}, "{half")
    for _ in range(2):  # made, and looked up
        refusal = refused(cache, rows)
        assert refusal.what == "3 of 11 rows cannot be trained on"
        assert "27% rejected" in refusal.have
        assert f"2 not JSON, first {rows}:9" in refusal.have
        assert f"1 no text or messages, first {rows}:10: keys: foo" in refusal.have
        assert refusal.need == "at most 5.0% (max_rejected)"
    flag, limit = refusal.remedies[-1].do.split()
    assert flag == "--max-rejected"
    assert len(look(cache, rows, max_rejected=float(limit))) == 8


def test_a_folder_with_nothing_usable_is_refused_with_counts(cache: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in "abc":
        (folder / f"{name}.png").write_bytes(b"\x89PNG\0")
    (folder / "empty").write_bytes(b"")
    refusal = refused(cache, folder)
    assert refusal.what == "nothing to train on in 4 files"
    assert refusal.have == f"3 binary, 1 empty, first {folder}/a.png"


def test_texts_and_conversations_together_are_refused(cache: Path, tmp_path: Path) -> None:
    rows = jsonl(tmp_path / "a.jsonl", CHAT, CHAT)
    refusal = refused(cache, rows, TINY)
    assert refusal.what == "texts and conversations together in one run"
    assert refusal.have == f"1 text, first {TINY}:1\n2 conversations, first {rows}:1"
    assert len(refusal.remedies) == 2


def test_texts_and_conversations_in_one_file_come_with_a_line_that_parts_them(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    jsonl(tmp_path / "a.jsonl", {"text": "x"}, CHAT)
    refusal = refused(cache, "a.jsonl", tokenizer=saved(tmp_path / "model"))
    subprocess.run(refusal.remedies[0].do, shell=True, check=True)
    assert look(cache, "conversations.jsonl").survey.kind == "conversations"


def test_F27_conversations_that_train_nothing_are_refused_with_their_place(
    cache: Path, tmp_path: Path
) -> None:
    rows = jsonl(tmp_path / "a.jsonl", "", QUESTION, QUESTION)
    refusal = refused(cache, rows)
    assert refusal.what == f"{rows}:2: no trained token; none of 2 rows can be trained on"
    assert "no assistant message" in refusal.have
    assert refusal.remedies[0].do == "--no-assistant-only-loss"
    assert len(look(cache, rows, assistant_only=False)) == 2


def test_T10_a_template_that_writes_no_answer_is_named_as_the_cause(
    cache: Path, tmp_path: Path
) -> None:
    rows = jsonl(tmp_path / "a.jsonl", CHAT)
    refusal = refused(cache, rows, template="{{ messages[0].content }}")
    assert refusal.what == f"{rows}:1: no trained token"
    assert "the template does not write any answer" in refusal.have


def test_T08_an_id_beyond_the_embedding_is_refused_with_its_token_and_place(
    cache: Path, tmp_path: Path
) -> None:
    rows = jsonl(tmp_path / "a.jsonl", {"text": "!"}, {"text": "caf\u00e9"})
    highest = look(cache, rows).survey.max_id
    with pytest.raises(DataRefused) as refusal:
        look(cache, rows, embedding_rows=highest)
    assert refusal.value.what == f"{rows}:2: the model has no embedding for token {highest}"
    assert "of a tokenizer with 259 tokens (byte-level)" in refusal.value.have
    assert f"{highest} embedding rows" in refusal.value.have
    assert len(look(cache, rows, embedding_rows=highest + 1)) == 2


def test_conversations_can_be_unwelcome_made_or_looked_up(cache: Path, tmp_path: Path) -> None:
    rows = jsonl(tmp_path / "a.jsonl", CHAT)
    no = UsageError("conversations need a model", cause=Cause.MODEL_REQUIRED)
    for _ in range(2):
        with pytest.raises(UsageError, match="conversations need a model"):
            look(cache, rows, conversations=no)
        look(cache, rows)
    assert len(look(cache, TINY, conversations=no)) == 1


# ---- how far it is ---------------------------------------------------------------------------


class Watched(Pulse):
    """A pulse that notes its phases, and what it said in each."""

    def __init__(self) -> None:
        self.phases: dict[str, tuple[int, int, str]] = {}
        super().__init__()

    def beat(self) -> None:
        super().beat()
        self.phases[self._phase] = (self.done, self.total, self.unit)


def test_every_phase_is_named_and_counts_its_bytes(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survey_module, "BYTE_LEVEL_BELOW", 100)
    pulse = Watched()
    look(cache, TINY, pulse=pulse)
    assert list(pulse.phases) == ["starting", "reading", "training a tokenizer", "tokenizing"]
    size = TINY.stat().st_size
    assert pulse.phases["reading"] == (size, size, "bytes")
    done, total, unit = pulse.phases["tokenizing"]
    assert done == total > size
    assert unit == "bytes"
    assert pulse.tokens > 1000
    assert (pulse.rows, pulse.skipped) == (1, 0)


def test_rejected_rows_are_skipped_in_the_pulse(cache: Path, tmp_path: Path) -> None:
    pulse = Watched()
    rows = jsonl(tmp_path / "a.jsonl", CHAT, "{half", QUESTION)
    look(cache, rows, pulse=pulse, max_rejected=1.0)
    assert (pulse.rows, pulse.skipped) == (1, 2)


@pytest.mark.parametrize("kind", ["text", "conversations"])
def test_D12_a_slow_writer_is_seen_line_by_line_with_its_tokens(
    kind: str, cache: Path, tmp_path: Path
) -> None:
    """Rows and tokens are visible while the writer holds the pipe open and says nothing."""
    path, beat = tmp_path / "pipe", tmp_path / "pulse"
    os.mkfifo(path)
    row = json.dumps(CHAT if kind == "conversations" else {"text": "words"}).encode()
    found: list[Store] = []
    folder = saved(tmp_path / "model")
    thread = threading.Thread(
        target=lambda: found.append(look(cache, path, pulse=Pulse(beat), tokenizer=folder)),
        daemon=True,
    )
    thread.start()
    with path.open("wb", buffering=0) as file:
        for rows in (1, 2, 3):
            file.write(row + b"\n")
            seen = _until(beat, rows)
            assert seen.waiting == str(path)
            assert seen.tokens >= rows * 5
    thread.join(10)
    assert len(found[0]) == 3
    assert len(stores(cache)) == 1


def _until(beat: Path, rows: int) -> Any:
    end_s = time.monotonic() + 10
    while time.monotonic() < end_s:
        reading = read_pulse(beat) if beat.exists() else None
        if reading and reading.rows == rows and reading.waiting:
            return reading
        time.sleep(0.001)
    raise AssertionError(f"{rows} rows were never seen")


def test_a_stream_is_read_anew_each_time_and_gives_the_same_store(
    cache: Path, tmp_path: Path
) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    folders: list[Path] = []
    for _ in range(2):
        writer = threading.Thread(target=path.write_bytes, args=(b"words\n",))
        writer.start()
        folders.append(look(cache, path).folder)
        writer.join(10)
    assert folders[0] == folders[1]
    assert list((cache / ".aliases").iterdir()) == []


# ---- speed -----------------------------------------------------------------------------------


def test_surveying_loads_neither_torch_nor_jinja(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from headway.base.pulse import Pulse\n"
        "from headway.data.sources.find import find_sources\n"
        "from headway.data.survey.survey import survey\n"
        "from headway.data.examples.maker import ExampleOptions\n"
        "options = ExampleOptions(None, 300, None, True)\n"
        "survey(find_sources([sys.argv[1]]), options, max_rejected=0, exact_bytes=1000000,"
        " cache=Path(sys.argv[2]), pulse=Pulse())\n"
        "sys.exit(' '.join({'torch', 'transformers', 'jinja2'} & set(sys.modules)) or 0)\n"
    )
    command = [sys.executable, "-c", code, str(TINY), str(tmp_path / "cache")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")


def test_a_store_of_many_rows_is_the_same_as_of_each_alone(cache: Path, tmp_path: Path) -> None:
    """Batches leave no trace."""
    texts = [f"row {n} " + "x" * (n % 7) for n in range(700)]
    store = look(cache, jsonl(tmp_path / "a.jsonl", *({"text": text} for text in texts)))
    assert decoded(store) == [text + DOCUMENT_END for text in texts]
    assert np.array_equal(store.places[:, 1], np.arange(1, 701))


DATED = "{{ strftime_now('%Y') }}{% for m in messages %}{{ m.content ~ eos_token }}{% endfor %}"


def test_a_template_that_asks_for_the_date_has_a_store_for_each_day(tmp_path: Path) -> None:
    chats = jsonl(tmp_path / "chats.jsonl", CHAT, CHAT)
    given = {"tokenizer": saved(tmp_path / "words", DATED)}
    monday, again, later = (
        look(tmp_path / "cache", chats, day=day, **given)
        for day in ("2026-11-30", "2026-11-30", "2031-01-01")
    )
    assert monday.folder == again.folder != later.folder
    assert monday.survey.template_day == "2026-11-30"
    assert decoded(monday)[0].startswith("2026")
    assert decoded(later)[0].startswith("2031")
    assert monday.survey.examples != later.survey.examples


def test_a_template_that_does_not_ask_has_one_store_for_all_days(tmp_path: Path) -> None:
    chats = jsonl(tmp_path / "chats.jsonl", CHAT, CHAT)
    stores = [look(tmp_path / "cache", chats, day=day) for day in ("2026-11-30", "2031-01-01")]
    assert stores[0].folder == stores[1].folder
    assert stores[0].survey.template_day == ""


# ---- answers that say nothing ----------------------------------------------------------------


def answers(path: Path, num: int, num_empty: int) -> Path:
    question = {"role": "user", "content": "q"}
    said = [{"role": "assistant", "content": "answer" * (n >= num_empty)} for n in range(num)]
    return jsonl(path, *({"messages": [question, answer]} for answer in said))


def test_empty_answers_are_refused_with_the_flag_that_keeps_them(
    cache: Path, tmp_path: Path
) -> None:
    path = answers(tmp_path / "a.jsonl", 20, 10)
    found = refused(cache, path)
    assert found.cause is Cause.TOO_MANY_REJECTED
    assert found.what == "10 of 20 rows cannot be trained on"
    assert f"10 an empty answer, first {path}:1: message 2" in found.have
    assert found.remedies[0].do == "--keep-empty-answers"
    kept = look(cache, path, keep_empty_answers=True).survey
    assert kept.notes == {"empty answers, trained as they are": 10}
    assert (kept.records_accepted, kept.records_rejected) == (20, {})


def test_a_few_empty_answers_are_rejected_and_counted(cache: Path, tmp_path: Path) -> None:
    found = look(cache, answers(tmp_path / "a.jsonl", 40, 2)).survey
    assert found.records_rejected == {"an empty answer": 2}
    assert (found.records_read, found.records_accepted) == (40, 38)


def test_only_empty_answers_are_refused_with_the_same_flag(cache: Path, tmp_path: Path) -> None:
    found = refused(cache, answers(tmp_path / "a.jsonl", 3, 3))
    assert found.need == "answers that are not empty"
    assert [remedy.do for remedy in found.remedies] == ["--keep-empty-answers"]


def test_tool_calls_that_the_template_loses_are_refused(cache: Path, tmp_path: Path) -> None:
    template = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|im_end|>{% endfor %}"
    call = {"type": "function", "function": {"name": "weather", "arguments": {}}}
    messages = [
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "21"},
        {"role": "assistant", "content": "21"},
    ]
    path = jsonl(tmp_path / "a.jsonl", *[{"messages": messages}] * 3)
    found = refused(cache, path, tokenizer=saved(tmp_path / "model", template))
    assert "3 an answer that is a tool call, which the template does not write" in found.have
    assert found.need == "answers that the chat template writes"
    assert found.remedies[0].do == "--model DIR"


# ---- the tokens that begin and end what is trained -------------------------------------------


def test_all_tokens_that_end_answers_are_known(cache: Path, tmp_path: Path) -> None:
    once = (
        "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>{% else %}<|endoftext|>{% endif %}"
    )
    path = jsonl(tmp_path / "a.jsonl", {"messages": [*CHAT["messages"], *CHAT["messages"]]})
    found = look(cache, path, tokenizer=saved(tmp_path / "model", once)).survey
    words = byte_level()
    assert found.end_ids == (words.id_of(DOCUMENT_END), words.id_of(TURN_END))
    assert found.begin_id == words.id_of("<|im_start|>")
    assert look(cache, path).survey.end_ids == (words.id_of(TURN_END),)
    text = look(cache, TINY).survey
    assert text.end_ids == (words.end_id,)
    assert text.begin_id == words.encode([TINY.read_text()[0]])[0][0]
