"""In a folder, data is read, and everything else is passed over with its name and the reason."""

import json
import os
from pathlib import Path

import pytest

from headway.base.errors import Cause, UsageError
from headway.base.pulse import Pulse
from headway.data.sources.find import find_sources
from headway.data.sources.folders import Found, PassReason, kind_of_folder, walk

ROW = json.dumps({"text": "words"}) + "\n"


def fill(folder: Path, *names: str, content: str = ROW) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


def names(found: Found, folder: Path) -> list[str]:
    return [str(Path(one.name).relative_to(folder)) for one in found]


def passed(found: Found, folder: Path) -> dict[str, PassReason]:
    return {str(Path(one.name).relative_to(folder)): one.reason for one in found.passed}


ABOUT = (
    *("README", "README.md", "readme.txt", "README_de.md", "LICENSE", "LICENCE.txt", "NOTICE"),
    *("CHANGELOG.md", "CITATION.cff", "COPYING", "AUTHORS", "notes.md", "page.rst"),
    *("dataset_infos.json", "dataset_info.json", "LICENSE-APACHE"),
)


@pytest.mark.parametrize(
    "data",
    ["a.jsonl", "a.ndjson.gz", "a.csv", "a.TSV", "a.parquet", "a.arrow", "a.json", "b/c.csv"],
)
def test_what_is_about_data_is_no_document_beside_it(data: str, tmp_path: Path) -> None:
    fill(tmp_path, data, "poem.txt", *ABOUT)
    for name in (tmp_path, f"{tmp_path}/**"):
        found = find_sources([str(name)])
        assert set(names(found, tmp_path)) == {data, "poem.txt"}
        assert set(passed(found, tmp_path)) == set(ABOUT)
        assert {one.reason for one in found.passed} == {PassReason.DOCUMENTATION}


def test_without_data_beside_it_each_of_them_is_a_document(tmp_path: Path) -> None:
    fill(tmp_path, *ABOUT, "code/main.py", content="words")
    fill(tmp_path, "package.json", content='{"name": "x", "version": "1"}')
    found = find_sources([str(tmp_path)])
    assert len(found) == len(ABOUT) + 2
    assert found.passed == ()


def test_documents_in_a_folder_without_data_stay_documents(tmp_path: Path) -> None:
    fill(tmp_path, "rows/a.jsonl", "rows/README.md", "docs/guide.md")
    found = find_sources([str(tmp_path)])
    assert names(found, tmp_path) == ["docs/guide.md", "rows/a.jsonl"]


def test_rows_that_are_called_like_documentation_are_rows(tmp_path: Path) -> None:
    fill(tmp_path, "readme.jsonl", "LICENSE.csv", "citation.jsonl.gz", "NOTICE")
    found = find_sources([str(tmp_path)])
    assert names(found, tmp_path) == ["LICENSE.csv", "citation.jsonl.gz", "readme.jsonl"]
    assert passed(found, tmp_path) == {"NOTICE": PassReason.DOCUMENTATION}


def test_a_file_that_is_named_is_read_whatever_its_name_is(tmp_path: Path) -> None:
    fill(tmp_path, "a.jsonl", "README.md")
    both = [str(tmp_path / "README.md"), str(tmp_path / "a.jsonl")]
    assert [one.name for one in find_sources(both)] == both


RUN = ("plan.json", "run.yaml", "events.jsonl", "samples.jsonl")
MODEL = ("config.json", "model.safetensors", "tokenizer.json")
OTHER = {
    "runs/a": (RUN, PassReason.RUN),
    "runs/b": (("plan.json", "events.jsonl", "checkpoint-2/headway.json"), PassReason.RUN),
    "checkpoint-2": (("headway.json", "trainer_state.json"), PassReason.MODEL),
    "model": (MODEL, PassReason.MODEL),
    "old model": (("config.json", "pytorch_model.bin"), PassReason.MODEL),
    "adapter": (("adapter_config.json", "adapter_model.safetensors"), PassReason.MODEL),
    ".git": (("config", "HEAD"), PassReason.HIDDEN),
    "web/node_modules": (("x/package.json",), PassReason.INSTALLED),
    "__pycache__": (("x.txt",), PassReason.INSTALLED),
    "env": (("pyvenv.cfg", "lib/a.txt"), PassReason.INSTALLED),
}


@pytest.mark.parametrize("folder", OTHER)
def test_a_folder_that_holds_no_data_is_passed_over_whole(folder: str, tmp_path: Path) -> None:
    files, reason = OTHER[folder]
    fill(tmp_path, "a.jsonl", *(f"{folder}/{name}" for name in files))
    found = find_sources([str(tmp_path)])
    assert names(found, tmp_path) == ["a.jsonl"]
    assert passed(found, tmp_path) == {folder: reason}


@pytest.mark.parametrize(("files", "flag"), [(RUN, "--continue"), (MODEL, "--model")])
def test_such_a_folder_is_refused_if_it_is_named(
    files: tuple[str, ...], flag: str, tmp_path: Path
) -> None:
    fill(tmp_path / "x y", *files)
    with pytest.raises(UsageError, match="not data") as caught:
        find_sources([str(tmp_path / "x y")])
    assert caught.value.cause is Cause.NOT_DATA
    assert caught.value.remedies[0].do == f"{flag} '{tmp_path}/x y'"


def test_links_out_pipes_and_hidden_files_are_passed_over(tmp_path: Path) -> None:
    inside = tmp_path / "in"
    fill(tmp_path, "out/secret.txt", "in/a.txt", "in/.hidden")
    (inside / "far.txt").symlink_to(tmp_path / "out" / "secret.txt")
    (inside / "folder").symlink_to(tmp_path / "out")
    (inside / "gone.txt").symlink_to("nothing")
    os.mkfifo(inside / "pipe.txt")
    found = find_sources([str(inside)])
    assert names(found, inside) == ["a.txt"]
    assert passed(found, inside) == {
        ".hidden": PassReason.HIDDEN,
        "far.txt": PassReason.LINK,
        "folder": PassReason.LINK,
        "gone.txt": PassReason.NO_FILE,
        "pipe.txt": PassReason.NO_FILE,
    }


def test_a_pipe_that_a_pattern_matches_is_passed_over(tmp_path: Path) -> None:
    fill(tmp_path, "a.txt")
    os.mkfifo(tmp_path / "pipe.txt")
    found = find_sources([f"{tmp_path}/*.txt"])
    assert names(found, tmp_path) == ["a.txt"]
    assert passed(found, tmp_path) == {"pipe.txt": PassReason.NO_FILE}


def test_a_folder_is_known_by_the_names_in_it() -> None:
    assert kind_of_folder({"plan.json"}) is None
    assert kind_of_folder({"config.json", "a.jsonl"}) is None
    assert kind_of_folder({"config.json", "x.gguf"}) is PassReason.MODEL


def test_a_file_is_walked_alone(tmp_path: Path) -> None:
    fill(tmp_path, "a.txt")
    (source,) = walk(tmp_path / "a.txt", Pulse())
    assert (source.name, source.found) == (str(tmp_path / "a.txt"), True)
