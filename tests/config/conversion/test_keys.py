"""Keys of a file of any depth, with their lines; no file takes the converter down."""

from pathlib import Path

import pytest

from headway.base.errors import UsageError
from headway.config.conversion.keys import Key, read_keys


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "theirs.yml"


def read(file: Path, text: str) -> list[Key]:
    file.write_text(text)
    return read_keys(file)


def test_sections_become_dotted_names_with_the_line_of_the_key(file: Path) -> None:
    keys = read(file, "a: 1\ndata:\n  init_args:\n    json_path: x\n    n:\nb: [1, 2]\n")
    assert keys == [
        Key("a", "1", 1),
        Key("data.init_args.json_path", "x", 4),
        Key("data.init_args.n", None, 5),
        Key("b", ["1", "2"], 6),
    ]


def test_a_list_of_sections_is_one_value(file: Path) -> None:
    (key,) = read(file, "datasets:\n- path: a\n  files: [b, c]\n- path: d\n")
    assert key.is_section_list
    assert key.value == [{"path": "a", "files": ["b", "c"]}, {"path": "d"}]


def test_json_is_read_too(file: Path) -> None:
    assert read(file, '{"a": 1e-5, "b": {"c": null}, "d": []}') == [
        Key("a", "1e-5", 1),
        Key("b.c", None, 1),
        Key("d", [], 1),
    ]


def test_of_two_keys_with_one_name_the_later_counts_as_in_their_tools(file: Path) -> None:
    assert [key.value for key in read(file, "a: 1\na: 2\n")] == ["2"]


def test_merged_sections_are_read(file: Path) -> None:
    keys = read(file, "base: &base {a: 1, b: 2}\ntrain:\n  <<: *base\n  b: 3\n")
    assert {key.name: key.value for key in keys}["train.a"] == "1"
    assert {key.name: key.value for key in keys}["train.b"] == "3"


@pytest.mark.parametrize(
    "text",
    [
        "a: &a {b: *a}",
        "a: &a [*a]",
        "a: " + "{b: " * 40 + "1" + "}" * 40,
        "a0: &a0 {x: 1, y: 2}\n"
        + "".join(
            f"a{i}: &a{i} {{l: *a{i - 1}, r: *a{i - 1}, s: *a{i - 1}}}\n" for i in range(1, 12)
        ),
        "- a\n- b",
        "",
        "a: [",
    ],
)
def test_what_is_no_configuration_is_refused(file: Path, text: str) -> None:
    with pytest.raises(UsageError) as refusal:
        read(file, text)
    assert refusal.value.need
    assert refusal.value.remedies
