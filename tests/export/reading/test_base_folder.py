"""The base model of adapters: found where they say, or where a person says, and known by hash."""

from pathlib import Path

import pytest
from tests.export.folders import adapter_folder, change, model_folder

from headway.base.errors import Cause, UsageError
from headway.base.pulse import Pulse
from headway.export.reading import base_folder
from headway.export.reading.base_folder import find_base
from headway.planning.hub_download import DownloadedModel
from headway.runs.base_model import weights_hash


def test_it_is_where_the_adapters_say(tmp_path: Path) -> None:
    base = model_folder(tmp_path / "base")
    found = find_base(adapter_folder(tmp_path / "adapter", base), "", Pulse())
    assert (found.name, found.folder, found.sha256) == ("base", str(base), weights_hash(base))


def test_it_is_where_a_person_says(tmp_path: Path) -> None:
    moved = model_folder(tmp_path / "moved")
    adapter = adapter_folder(tmp_path / "adapter", tmp_path / "gone")
    assert find_base(adapter, str(moved), Pulse()).folder == str(moved)
    with pytest.raises(UsageError) as refused:
        find_base(adapter, "", Pulse())
    assert refused.value.cause is Cause.MODEL_NOT_FOUND
    assert refused.value.remedies[0].do == "--model DIR"


def test_a_name_on_the_hub_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = model_folder(tmp_path / "cache")
    names: list[str] = []

    def download(name: str, _: Pulse) -> DownloadedModel:
        names.append(name)
        return DownloadedModel(base, "abc")

    monkeypatch.setattr(base_folder, "download_model", download)
    adapter = adapter_folder(tmp_path / "adapter", base)
    change(adapter / "adapter_config.json", base_model_name_or_path="somebody/model")
    assert find_base(adapter, "", Pulse()).name == "somebody/model"
    assert find_base(adapter, "other/model", Pulse()).name == "other/model"
    assert names == ["somebody/model", "other/model"]


def test_adapters_that_do_not_say_are_asked_for(tmp_path: Path) -> None:
    adapter = adapter_folder(tmp_path / "adapter", tmp_path)
    change(adapter / "adapter_config.json", base_model_name_or_path=None)
    with pytest.raises(UsageError) as refused:
        find_base(adapter, "", Pulse())
    assert refused.value.cause is Cause.MODEL_NOT_FOUND


def test_x02_a_base_that_changed_since_training_is_another_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = model_folder(tmp_path / "base")
    adapter = adapter_folder(tmp_path / "adapter", base)
    monkeypatch.setattr(base_folder, "expected_hash", lambda _: weights_hash(base))
    assert find_base(adapter, "", Pulse()).folder == str(base)
    monkeypatch.setattr(base_folder, "expected_hash", lambda _: "ab" * 32)
    with pytest.raises(UsageError) as refused:
        find_base(adapter, "", Pulse())
    assert refused.value.cause is Cause.MODEL_INVALID
