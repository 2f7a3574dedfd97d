"""Which files are taken and in which order: tables of listings, no file and no clock."""

from dataclasses import replace

import pytest

from headway.inbox.arriving.arrivals import (
    SETTLED_S,
    STABLE_S,
    UNFINISHED_S,
    ArrivalKind,
    FileWriter,
    Listed,
    ProbedFile,
    SeenFile,
    is_left_alone,
    names_to_probe,
    sort_out,
    watch,
)

NS = 1_000_000_000
CLOSED, OPEN, UNKNOWN = (
    ProbedFile(FileWriter.NONE),
    ProbedFile(FileWriter.ACTIVE),
    ProbedFile(FileWriter.UNKNOWN),
)
HALF_A_LINE = ProbedFile(FileWriter.UNKNOWN, ends_whole=False)


def file(
    name: str, *, at_s: float = 0, size: int = 9, kind: ArrivalKind = ArrivalKind.FILE
) -> Listed:
    return Listed(name, kind, (size, int(at_s * NS)), int(at_s * NS), size)


def ready(*files: Listed, priority: tuple[str, ...] = ()) -> list[str]:
    seen = {one.name: SeenFile(one, 0.0) for one in files}
    probed = dict.fromkeys(seen, CLOSED)
    return [one.name for one in sort_out(seen, probed, 100.0, priority).ready]


@pytest.mark.parametrize(
    "name",
    ["a.part", "a.jsonl.tmp", "A.TMP", "a.jsonl~", ".hidden", ".a.jsonl.x1", "done", "failed",
     "processing", "current_model", "headway.yaml", "a.crdownload", ".headway"],
)  # fmt: skip
def test_unfinished_and_own_names_are_left_alone(name: str) -> None:
    assert is_left_alone(name)
    assert watch({}, [file(name)], 0.0) == {}


@pytest.mark.parametrize("name", ["a.jsonl", "partial.txt", "tmp", "done.jsonl", "a.party"])
def test_other_names_are_not(name: str) -> None:
    assert not is_left_alone(name)


@pytest.mark.parametrize(
    ("probed", "kind", "quiet_s", "taken"),
    [
        (CLOSED, ArrivalKind.FILE, SETTLED_S, True),
        (OPEN, ArrivalKind.FILE, 1e6, False),
        (UNKNOWN, ArrivalKind.FILE, STABLE_S - 0.1, False),
        (UNKNOWN, ArrivalKind.FILE, STABLE_S, True),
        (HALF_A_LINE, ArrivalKind.FILE, STABLE_S, False),
        (HALF_A_LINE, ArrivalKind.FILE, UNFINISHED_S, True),
        # between two files of a folder that is copied, none is open
        (CLOSED, ArrivalKind.FOLDER, STABLE_S - 0.1, False),
        (CLOSED, ArrivalKind.FOLDER, STABLE_S, True),
        (OPEN, ArrivalKind.FOLDER, 1e6, False),
    ],
)
def test_a_file_is_taken_when_its_writer_is_done(
    probed: ProbedFile, kind: ArrivalKind, quiet_s: float, taken: bool
) -> None:
    one = file("a.jsonl", kind=kind)
    found = sort_out({"a.jsonl": SeenFile(one, 50.0)}, {"a.jsonl": probed}, 50.0 + quiet_s)
    assert [r.name for r in found.ready] == ["a.jsonl"] * taken
    assert [w.listed.name for w in found.waiting] == ["a.jsonl"] * (not taken)
    assert all(w.why for w in found.waiting)


def test_what_was_not_probed_waits() -> None:
    found = sort_out({"a": SeenFile(file("a"), 0.0)}, {}, 100.0)
    assert found.ready == ()
    assert found.waiting[0].why == "it changed just now"


def test_an_empty_folder_waits_for_its_files() -> None:
    one = replace(file("a", kind=ArrivalKind.FOLDER), num_files=0)
    found = sort_out({"a": SeenFile(one, 0.0)}, {"a": CLOSED}, 1e6)
    assert found.ready == ()
    assert found.waiting[0].why == "an empty folder"


def test_the_time_counts_from_the_last_change() -> None:
    seen = watch({}, [file("a")], 10.0)
    seen = watch(seen, [file("a")], 11.0)
    assert seen["a"].since_s == 10.0
    seen = watch(seen, [file("a", size=10)], 12.0)
    assert seen["a"].since_s == 12.0
    assert watch(seen, [], 13.0) == {}


def test_only_what_is_quiet_is_opened() -> None:
    seen = {"a": SeenFile(file("a"), 0.0), "b": SeenFile(file("b"), 9.5)}
    seen["c"] = SeenFile(file("c", kind=ArrivalKind.PIPE), 0.0)
    assert names_to_probe(seen, 10.0) == ["a"]


@pytest.mark.parametrize(
    "kind",
    [ArrivalKind.LINK, ArrivalKind.PIPE, ArrivalKind.SOCKET, ArrivalKind.DEVICE,
     ArrivalKind.UNNAMED],
)  # fmt: skip
def test_f59_what_is_neither_file_nor_folder_is_refused(kind: ArrivalKind) -> None:
    found = sort_out({"a": SeenFile(file("a", kind=kind), 0.0)}, {}, 0.0)
    assert [one.name for one in found.refused] == ["a"]
    assert found.ready == found.waiting == ()


# ---- the order ---------------------------------------------------------------------------------


def test_the_oldest_comes_first() -> None:
    assert ready(file("a", at_s=30), file("b", at_s=10), file("c", at_s=20)) == ["b", "c", "a"]


def test_a_leading_number_decides_among_files_of_one_second() -> None:
    files = [file("10-c", at_s=5.1), file("9-b", at_s=5.8), file("x", at_s=5.0), file("1", at_s=9)]
    assert ready(*files) == ["9-b", "10-c", "x", "1"]


def test_the_order_does_not_depend_on_the_listing() -> None:
    files = [file(name, at_s=7) for name in ("b", "a", "2", "10")]
    assert ready(*files) == ready(*reversed(files)) == ["2", "10", "a", "b"]


def test_priority_goes_first_in_its_own_order() -> None:
    files = [file("a", at_s=1), file("exam-1", at_s=2), file("urgent-2", at_s=4)]
    files.append(file("urgent-1", at_s=3))
    order = ready(*files, priority=("urgent-*", "exam*"))
    assert order == ["urgent-1", "urgent-2", "exam-1", "a"]


def test_a_number_of_any_length_is_a_number() -> None:
    assert ready(file("9" * 400), file("1")) == ["1", "9" * 400]
