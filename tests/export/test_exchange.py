"""Two folders swap names, where the kernel does it and where it does not."""

from pathlib import Path

import pytest

from headway.export import exchange as module
from headway.export.exchange import exchange


def folders(here: Path) -> tuple[Path, Path]:
    for name in ("one", "other"):
        (here / name).mkdir()
        (here / name / f"of {name}").touch()
    return here / "one", here / "other"


@pytest.mark.parametrize("by_kernel", [True, False])
def test_each_gets_the_name_of_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, by_kernel: bool
) -> None:
    one, other = folders(tmp_path)
    if not by_kernel:
        monkeypatch.setattr(module, "_exchanged", lambda *_: False)
    exchange(one, other)
    assert (one / "of other").exists()
    assert (other / "of one").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "other"]


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    one, _ = folders(tmp_path)
    with pytest.raises(FileNotFoundError):
        exchange(one, tmp_path / "gone")
    assert (one / "of one").exists()
