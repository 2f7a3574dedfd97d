"""A model that is read early is the model that would be read, given away once."""

from pathlib import Path

import pytest
import torch
from tests.helpers import save_model

from headway.base.errors import UsageError
from headway.model.load import from_folder
from headway.training.weights import early_read
from headway.training.weights.early_read import EarlyRead


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_model(tmp_path / "model")


def test_it_is_read_once_and_given_away_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = EarlyRead(folder)
    expected = from_folder(folder, trust_remote_code=False).state_dict()
    with monkeypatch.context() as patch:
        patch.setattr(early_read, "from_folder", lambda *_, **__: pytest.fail("it is read again"))
        first = read(folder, trust_remote_code=False)
    second = read(folder, trust_remote_code=False)
    assert first is not second
    for model in (first, second):
        assert all(torch.equal(one, expected[name]) for name, one in model.state_dict().items())


def test_another_one_is_read_when_it_is_asked_for(folder: Path, tmp_path: Path) -> None:
    other = save_model(tmp_path / "other", num_hidden_layers=1)
    expected = from_folder(other, trust_remote_code=False).state_dict()
    found = EarlyRead(folder)(other, trust_remote_code=False).state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("why", ["none", "not there", "large", "its own code may run"])
def test_what_is_not_read_early_is_read_then(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    if why == "large":
        monkeypatch.setattr(early_read, "MOST_BYTES", 10)
    early = {"none": None, "not there": tmp_path / "gone"}.get(why, folder)
    read = EarlyRead(early)
    asked: list[Path] = []

    def noted(path: Path, *, trust_remote_code: bool) -> torch.nn.Module:
        asked.append(path)
        return from_folder(path, trust_remote_code=trust_remote_code)

    monkeypatch.setattr(early_read, "from_folder", noted)
    read(folder, trust_remote_code=why == "its own code may run")
    assert asked == [folder]
    if why == "not there":
        with pytest.raises(UsageError):
            read(tmp_path / "gone", trust_remote_code=False)
