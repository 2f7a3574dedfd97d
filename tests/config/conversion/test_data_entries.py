"""Data in other tools' files: as files and addresses, or told why not."""

import json
from pathlib import Path

import pytest

from headway.config.conversion.data_entries import DataLines, data_of
from headway.config.conversion.keys import read_keys


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def data(text: str) -> DataLines:
    Path("theirs.yml").write_text(text)
    return data_of(read_keys(Path("theirs.yml")), Path())


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("datasets:\n- path: owner/name\n  type: chat_template\n", ["hf://owner/name"]),
        ("datasets:\n- path: owner/name\n  split: test\n", ["hf://owner/name@test"]),
        ("datasets:\n- path: owner/name\n  name: en\n  split: train\n", ["hf://owner/name/en"]),
        ("datasets:\n- path: a/b.jsonl\n- path: ./c\n", ["a/b.jsonl", "./c"]),
        ("datasets:\n- path: json\n  data_files: [a.json, b.json]\n", ["a.json", "b.json"]),
        ("datasets:\n- path: csv\n  data_files: a.csv\n", ["a.csv"]),
        ("datasets:\n- {path: 's3://bucket/a.jsonl'}\n", ["s3://bucket/a.jsonl"]),
        ("pretraining_dataset:\n- path: owner/web\n", ["hf://owner/web"]),
        ("dataset_name: owner/name\ndataset_config: en\n", ["hf://owner/name/en"]),
        ("dataset_name: owner/name\ndataset_train_split: a\n", ["hf://owner/name@a"]),
        ("dataset_name: notes.txt\n", ["notes.txt"]),
        ("training_file: chats.jsonl\n", ["chats.jsonl"]),
        ("data:\n  init_args:\n    json_path: chats.json\n", ["chats.json"]),
        ("data:\n  init_args:\n    train_data_path: texts\n", ["texts"]),
        ("datasets:\nseed: 1\n", []),
    ],
)
def test_what_is_trained_on_is_found(text: str, found: list[str]) -> None:
    lines = data(text)
    assert list(lines.data) == found
    assert lines.missing == ()


def test_a_local_folder_is_not_taken_for_a_dataset_of_the_hub(tmp_path: Path) -> None:
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert data("dataset_name: owner/name").data == ("owner/name",)


def test_names_of_llama_factory_are_looked_up_where_it_looks(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    info = {
        "chats": {"file_name": "chats.json", "formatting": "sharegpt"},
        "alpaca": {"hf_hub_url": "owner/alpaca"},
        "pairs": {"file_name": "pairs.json", "ranking": True},
    }
    (tmp_path / "data" / "dataset_info.json").write_text(json.dumps(info))
    lines = data("stage: sft\ndataset: chats, alpaca,pairs,gone\n")
    assert lines.data == ("data/chats.json", "hf://owner/alpaca")
    assert [name for name, _ in lines.missing] == ["dataset: pairs"]
    assert [name for name, _ in lines.notes] == ["dataset: gone"]


def test_names_that_nothing_explains_are_told() -> None:
    lines = data("stage: sft\ndataset: identity,my/chats.jsonl\n")
    assert lines.data == ("my/chats.jsonl",)
    assert lines.notes == (
        ("dataset: identity", "name the file under data: data/dataset_info.json is not here"),
    )


@pytest.mark.parametrize(
    ("entry", "missing"),
    [
        ("{path: a.jsonl, type: {field_instruction: q}}", "datasets[0].type"),
        ("{path: a.jsonl, split: 'train[:10%]'}", "datasets[0].split"),
        ("{path: a.jsonl, type: dpo}", "datasets[0].type"),
        ("{path: a.jsonl, field_messages: talk}", "datasets[0].field_messages"),
        ("{path: a.jsonl, roles_to_train: [user]}", "datasets[0].roles_to_train"),
        ("{path: a.jsonl, shards: 10}", "datasets[0].shards"),
        ("{path: a.jsonl, message_property_mappings: {role: who}}", "datasets[0].message_property"),
        ("{path: a.jsonl, unheard: 1}", "datasets[0].unheard"),
        ("{type: alpaca}", "datasets[0]"),
    ],
)
def test_what_would_train_other_rows_is_missing(entry: str, missing: str) -> None:
    found = data(f"datasets:\n- {entry}\n").missing
    assert [name.startswith(missing) for name, _ in found] == [True]


@pytest.mark.parametrize(
    "entry",
    [
        "{path: a.jsonl, field_messages: conversations, roles_to_train: [assistant]}",
        "{path: a.jsonl, message_property_mappings: {role: from, content: value}}",
        "{path: a.jsonl, type: chat_template, train_on_eos: turn, ds_type: json}",
    ],
)
def test_what_headway_does_anyway_is_not(entry: str) -> None:
    lines = data(f"datasets:\n- {entry}\n")
    assert (lines.missing, lines.notes) == ((), ())


def test_prompts_of_a_type_are_written_by_the_template_and_told() -> None:
    ((name, reason),) = data("datasets:\n- {path: a.jsonl, type: alpaca}\n").notes
    assert name == "datasets[0].type"
    assert "chat template" in reason
