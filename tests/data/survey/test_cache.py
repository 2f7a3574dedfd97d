"""The store cache keeps what was used and never offers half a store."""

from pathlib import Path

import pytest

from headway.data.survey.cache import CachedFolder, StoreCache, folders_to_delete

DAY_S = 86_400.0


def kept(name: str, num_bytes: int, days_ago: float) -> CachedFolder:
    return CachedFolder(Path(name), num_bytes, (100 - days_ago) * DAY_S)


@pytest.mark.parametrize(
    ("folders", "max_bytes", "deleted"),
    [
        ([kept("new", 6, 0.5), kept("old", 3, 3), kept("older", 3, 4)], 12, []),
        ([kept("new", 6, 0.5), kept("old", 3, 3), kept("older", 3, 4)], 9, ["older"]),
        ([kept("new", 6, 0.5), kept("old", 3, 3), kept("older", 3, 4)], 0, ["older", "old"]),
        ([kept("new", 6, 0.5)], 0, []),
        ([kept(".partial-x", 1, 2), kept(".partial-y", 1, 0.1)], 9, [".partial-x"]),
    ],
)
def test_pruning_deletes_the_least_recently_used_and_partial_stores(
    folders: list[CachedFolder], max_bytes: int, deleted: list[str]
) -> None:
    gone = folders_to_delete(folders, 100 * DAY_S, max_bytes)
    assert [one.path.name for one in gone] == deleted


def test_an_alias_without_its_store_is_a_miss(tmp_path: Path) -> None:
    (tmp_path / ".aliases").mkdir(parents=True)
    (tmp_path / ".aliases" / "what").write_text("")
    assert StoreCache(tmp_path).find("what") is None
    assert StoreCache(tmp_path).find("nothing") is None


def test_a_partial_store_is_removed_on_any_exit(tmp_path: Path) -> None:
    def interrupted() -> None:
        with StoreCache(tmp_path).new_folder() as folder:
            (folder / "half").write_text("x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.name for path in tmp_path.iterdir()] == [".aliases"]
