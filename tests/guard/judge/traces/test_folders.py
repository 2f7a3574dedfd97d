"""Files of a name are found few levels deep, without following links."""

from pathlib import Path

from headway.guard.judge.traces.folders import find_named


def test_files_are_found_in_order_and_links_are_not_followed(tmp_path: Path) -> None:
    for name in ("out/checkpoint-2", "out/checkpoint-10", "venv/x", ".git/x", "a/b/c/d/e/f"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "state.json").touch()
    (tmp_path / "link").symlink_to(tmp_path / "out")
    (tmp_path / "out" / "loop").symlink_to(tmp_path)
    (tmp_path / "out" / "state.json").symlink_to("checkpoint-2/state.json")
    found = find_named((tmp_path,), "state.json")
    assert [str(path.relative_to(tmp_path).parent) for path in found] == [
        "out/checkpoint-10",
        "out/checkpoint-2",
    ]


def test_folders_that_matter_come_first_and_there_is_an_end(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").touch()
    assert find_named((tmp_path / "b", tmp_path, tmp_path / "none"), "x", max_found=1) == (
        tmp_path / "b" / "x",
    )
