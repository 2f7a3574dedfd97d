"""The cache keeps what was used, and never offers half a store."""

from pathlib import Path

import pytest

from headway.data.survey.cache import Cache, Kept, to_delete

DAY_S = 86_400.0


def kept(name: str, num_bytes: int, days_ago: float) -> Kept:
    return Kept(Path(name), num_bytes, (100 - days_ago) * DAY_S)


@pytest.mark.parametrize(
    ("folders", "most_bytes", "deleted"),
    [
        ([kept("new", 6, 0.5), kept("old", 3, 3), kept("older", 3, 4)], 12, []),
        ([kept("new", 6, 0.5), kept("old", 3, 3), kept("older", 3, 4)], 9, ["older"]),
        ([kept("new", 6, 0.5), kept("old", 3, 3), kept("older", 3, 4)], 0, ["older", "old"]),
        ([kept("new", 6, 0.5)], 0, []),
        ([kept(".making-x", 1, 2), kept(".making-y", 1, 0.1)], 9, [".making-x"]),
    ],
)
def test_pruning_deletes_the_least_recently_used_and_what_was_left_behind(
    folders: list[Kept], most_bytes: int, deleted: list[str]
) -> None:
    gone = to_delete(folders, 100 * DAY_S, most_bytes)
    assert [one.path.name for one in gone] == deleted


def test_an_index_without_its_store_is_a_miss(tmp_path: Path) -> None:
    (tmp_path / ".seen").mkdir(parents=True)
    (tmp_path / ".seen" / "what").write_text("")
    assert Cache(tmp_path).seen_before("what") is None
    assert Cache(tmp_path).seen_before("nothing") is None


def test_a_folder_on_its_way_is_gone_however_it_ends(tmp_path: Path) -> None:
    def interrupted() -> None:
        with Cache(tmp_path).new_folder() as folder:
            (folder / "half").write_text("x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.name for path in tmp_path.iterdir()] == [".seen"]
