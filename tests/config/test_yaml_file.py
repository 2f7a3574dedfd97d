"""run.yaml: every setting with its place, every slip with line and column."""

import contextlib
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from headway.base.errors import Problems, Refusal, UsageError
from headway.config.resolve import resolve
from headway.config.settings import Given, Settings
from headway.config.yaml_file import read_settings, scan_settings, write_settings


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


RUN = Path("run.yaml")


def read(text: str) -> list[Given]:
    RUN.write_text(text)
    return list(read_settings(RUN).given)


def refused(text: str | bytes) -> Refusal:
    RUN.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises((UsageError, Problems)) as refusal:
        read_settings(RUN)
    return refusal.value


def tries(refusal: Refusal) -> list[str]:
    return [remedy.do for remedy in refusal.remedies]


# -- reading


def test_every_setting_knows_its_line_and_column() -> None:
    assert read("# a comment\nlr: 2e-4\n\nlora:\n    r: 8\n    lora_alpha: 16\nbs:   12\n") == [
        Given("lr", "2e-4", "run.yaml:2:1"),
        Given("lora.r", "8", "run.yaml:5:5"),
        Given("lora.lora_alpha", "16", "run.yaml:6:5"),
        Given("bs", "12", "run.yaml:7:1"),
    ]


def test_a_section_on_one_line_and_a_dotted_name_are_the_same() -> None:
    (first,), (second,) = read("lora: {r: 8}"), read("lora.r: 8")
    assert resolve([first]) == resolve([second])
    assert first.origin == "run.yaml:1:8"


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("learning_rate: 2e-4", "learning_rate", 0.0002),  # a text in YAML 1.1
        ("learning_rate: 2.0e-4", "learning_rate", 0.0002),
        ("bf16: on", "bf16", True),
        ("bf16: off", "bf16", False),
        ('bf16: "yes"', "bf16", True),
        ("max_steps: 2_488", "max_steps", 2488),
        ("max_steps: 010", "max_steps", 10),  # octal in YAML 1.1
        ("run_name: on", "run_name", "on"),  # true in YAML 1.1
        ("run_name: 2024-01-01", "run_name", "2024-01-01"),  # a date in YAML 1.1
        ("run_name: 12", "run_name", "12"),
        ("max_time: 1h30m", "max_time", 5400.0),
        ("max_length: null", "max_length", None),
        ("max_length: ~", "max_length", None),
        ("max_length:", "max_length", None),
        ("sample_prompts: [Once, 'no']", "sample_prompts", ("Once", "no")),
        ("sample_prompts: Once upon", "sample_prompts", ("Once upon",)),
        ("sample_prompts:\n- |\n  two\n  lines", "sample_prompts", ("two\nlines",)),
    ],
)
def test_values_mean_what_they_look_like(line: str, name: str, value: object) -> None:
    assert getattr(resolve(read(line)), name) == value


def test_a_time_with_a_colon_is_refused_not_taken_for_sexagesimal_seconds() -> None:
    with pytest.raises(UsageError, match="max_time: invalid value 1:30"):
        resolve(read("max_time: 1:30"))


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("data: a.txt", ("a.txt",)),
        ("data: [a.txt, 'b c.jsonl']", ("a.txt", "b c.jsonl")),
        ("data:\n- a.txt\n- hf://owner/name\nlr: 1", ("a.txt", "hf://owner/name")),
        ("data:\nlr: 1", ()),
        ("lr: 1", ()),
    ],
)
def test_data_stands_apart(text: str, data: tuple[str, ...]) -> None:
    RUN.write_text(text)
    assert read_settings(RUN).data == data


@pytest.mark.parametrize("text", ["\ufefflr: 2e-4\r\nbs: 8\r\n", "lr: 2e-4 # x\n---\n"[:11]])
def test_byte_order_marks_and_line_ends_do_not_matter(text: str) -> None:
    assert read(text)[0].name == "lr"


def test_the_file_in_the_documentation_is_read_whole() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"
    (example,) = re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)
    RUN.write_text(example)
    file = read_settings(RUN)
    settings = resolve(file.given)
    assert file.data == ("notes/", "letters.jsonl")
    assert (settings.lora, settings.lora_r, settings.learning_rate) == (True, 8, 2e-4)
    assert settings.sample_prompts == ("Dear", "Once upon a time")


def test_the_refusal_in_the_documentation_is_told_in_these_words() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"
    with pytest.raises(UsageError) as refusal:
        resolve(read("\n\nmax_lenght: 512"))
    assert str(refusal.value) in page.read_text()


# -- what resolve then says


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("max_lenght: 512", "max_length: 512"),
        ("cutoff_len: 512", "max_length: 512"),
        ("micro_batch_size: 2", "per_device_train_batch_size: 2"),
        ("val_set_size: 0.05", "val_size: 0.05"),
    ],
)
def test_an_unknown_line_gets_our_spelling_of_that_very_line(theirs: str, ours: str) -> None:
    with pytest.raises(UsageError) as refusal:
        resolve(read(f"seed: 1\n{theirs}\n"))
    assert refusal.value.what == f"run.yaml:2:1: unknown setting {theirs.partition(':')[0]}"
    assert refusal.value.have == theirs
    assert tries(refusal.value) == [ours]


# -- what cannot be read


def test_a_setting_given_twice_is_refused_whatever_it_is_called() -> None:
    refusal = refused("lr: 1e-3\nseed: 1\nlearning_rate: 2e-4\n")
    assert refusal.what == "run.yaml:3:1: learning_rate is set twice"
    assert refusal.have == "lr on line 1, learning_rate on line 3"
    assert tries(refusal) == ["delete line 1", "delete line 3"]


@pytest.mark.parametrize(
    "text",
    [
        "lr: 1\nlr: 1",
        "lora: {r: 8, r: 9}",
        "lora: {r: 8}\nlora.r: 8",
        "foo: 1\nfoo: 2",
        "data: a\ndata: b",
    ],
)
def test_no_second_value_is_lost_in_silence(text: str) -> None:
    assert "is set twice" in refused(text).what


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "---\n"])
def test_f23_an_empty_file_is_refused(text: str) -> None:
    assert refused(text).what == "run.yaml is empty"


@pytest.mark.parametrize(
    ("text", "place", "have", "remedy"),
    [
        ("lr:2e-4", "1:1", "plain text", "lr: 2e-4"),
        ("lr=2e-4", "1:1", "plain text", "lr: 2e-4"),
        ("- a\n- b", "1:1", "a list", "name: value"),
        ("just words", "1:1", "plain text", "name: value"),
    ],
)
def test_what_is_no_list_of_settings_is_refused(
    text: str, place: str, have: str, remedy: str
) -> None:
    refusal = refused(text)
    assert refusal.what == f"run.yaml:{place}: not a list of settings"
    assert refusal.have == have
    assert tries(refusal) == [remedy]


@pytest.mark.parametrize(
    ("text", "place", "have", "remedy"),
    [
        ("seed: 1\nlora:\n\tr: 8\n", "3:1", "r: 8", "line 3: use spaces instead of tabs"),
        ("lr:2e-4\nseed: 1\n", "2:5", "seed: 1", "lr: 2e-4"),
        ("seed: [1, 2\n", "2:1", "seed: [1, 2", "name: value"),
        ('run_name: "x\n', "2:1", 'run_name: "x', "name: value"),
        ("seed: 1\n bs: 2\n", "2:4", "bs: 2", "name: value"),
        ("seed: *x\n", "1:7", "seed: *x", "name: value"),
        ("seed: 1\n---\nseed: 2\n", "2:1", "---", "name: value"),
        ("seed: 1\nrun_name: a\x00b\n", "2:12", "run_name: a\x00b", "name: value"),
    ],
)
def test_what_is_no_yaml_is_told_with_line_and_column(
    text: str, place: str, have: str, remedy: str
) -> None:
    refusal = refused(text)
    assert refusal.what == f"run.yaml:{place}: not valid YAML"
    assert refusal.have == have
    assert refusal.need
    assert tries(refusal) == [remedy]


def test_deep_nesting_is_refused_not_a_crash() -> None:
    assert "not valid YAML" in refused("a: " + "[" * 2000).what


@pytest.mark.parametrize(
    ("text", "what", "remedy"),
    [
        ("lora: {}", "run.yaml:1:1: lora has an unsupported value", "lora: true"),
        ("lora: {r: {x: 1}}", "run.yaml:1:8: lora.r has an unsupported value", "lora.r: 16"),
        ("bs: {a: {b: 1}}", "run.yaml:1:6: bs.a has an unsupported value", "batch_size: 8"),
        ("sample_prompts: [[a]]", "run.yaml:1:1: sample_prompts has", "sample_prompts: text"),
        ("seed: !!python/name:os.system x", "run.yaml:1:1: seed has", "seed: 42"),
        ("foo: {}", "run.yaml:1:1: foo has", "name: value"),
    ],
)
def test_a_value_of_another_kind_is_refused(text: str, what: str, remedy: str) -> None:
    refusal = refused(text)
    assert refusal.what.startswith(what)
    assert tries(refusal) == [remedy]


def test_other_tools_names_for_data_get_ours() -> None:
    refusal = refused("dataset: alpaca.jsonl\ndatasets: [a, b]\n")
    assert isinstance(refusal, Problems)
    first, second = refusal.problems
    assert (first.what, tries(first)) == (
        "run.yaml:1:1: unknown setting dataset",
        ["data: alpaca.jsonl"],
    )
    assert tries(second) == ["data: [a, b]"]


def test_another_tools_section_or_list_of_sections_gets_its_answer(tmp_path: Path) -> None:
    text = (
        "datasets:\n- path: a.jsonl\n  type: alpaca\nfsdp_config:\n  a: {b: 1}\nplugins: [a, b]\n"
    )
    RUN.write_text(text)
    file = scan_settings(RUN)
    with pytest.raises(Problems) as refusal:
        resolve(file.given)
    assert [one.what for one in (*file.problems, *refusal.value.problems)] == [
        "run.yaml:1:1: unknown setting datasets",
        "run.yaml:5:3: fsdp_config.a: {...} is not available",
        "run.yaml:6:1: plugins: [a, b] is not available",
    ]
    assert tries(refusal.value.problems[0]) == ["delete line 5"]


def test_latin_1_is_told_with_its_place_and_how_to_convert_it() -> None:
    refusal = refused("seed: 1\nrun_name: caf\u00e9\n".encode("latin-1"))
    assert refusal.what == "run.yaml:2:14: not UTF-8 text"
    assert refusal.have == "the byte 0xe9"
    assert tries(refusal) == ["iconv -f WINDOWS-1252 -t UTF-8 run.yaml > utf8-run.yaml"]


def test_a_file_that_is_not_there_is_told_with_the_nearest_that_is(tmp_path: Path) -> None:
    Path("configs.yaml").write_text("seed: 1")
    with pytest.raises(UsageError, match=r"config.yaml not found") as refusal:
        read_settings(Path("config.yaml"))
    assert refusal.value.have == f"1 YAML file in {tmp_path}"
    assert tries(refusal.value) == ["headway train configs.yaml"]


def test_a_file_that_is_not_there_nor_any_other(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refusal:
        read_settings(tmp_path / "gone" / "run.yaml")
    assert tries(refusal.value) == ["headway train --help"]


def test_a_folder_is_no_settings_file() -> None:
    Path("run.yaml").mkdir()
    with pytest.raises(UsageError, match=r"cannot read .*run\.yaml") as refusal:
        read_settings(Path("run.yaml"))
    assert refusal.value.have == "Is a directory"


@given(st.text(max_size=60))
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_f51_any_text_is_settings_or_a_refusal(text: str) -> None:
    RUN.write_bytes(text.encode(errors="surrogatepass"))
    with contextlib.suppress(Refusal):
        read_settings(RUN)


# -- writing


def round_trip(settings: Settings, data: tuple[str, ...] = ()) -> None:
    RUN.write_text(write_settings(settings, data))
    file = read_settings(RUN)
    assert file.data == data
    assert resolve(file.given) == settings


def test_what_was_written_shows_each_origin() -> None:
    written = write_settings(resolve([Given("lr", "2e-4", "--lr")]), ("notes.txt",))
    lines = written.splitlines()
    assert lines[1:3] == ["data:", '  - "notes.txt"']
    assert any(line.split() == ["learning_rate:", "0.0002", "#", "--lr"] for line in lines)
    assert any(line.split() == ["seed:", "42", "#", "default"] for line in lines)


def test_the_defaults_come_back() -> None:
    round_trip(Settings())


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "on",
        "1e3",
        "# no comment",
        "a: b",
        "'",
        '"',
        "\\",
        "\n",
        " x ",
        "é😀",
        "\x7f\x85",
        "",
    ],
)
def test_a_text_comes_back_whatever_it_looks_like(text: str) -> None:
    settings = resolve([Given("sample_prompts", [text, "x" * 300], "you")])
    round_trip(settings, (f"{text}.txt",))
    if text:
        round_trip(resolve([Given("output_dir", text, "you\nand me")]))


@given(
    learning_rate=st.floats(1e-300, 1e300),
    seed=st.integers(0, 2**63),
    prompts=st.lists(st.text(st.characters(codec="utf-8"), max_size=20), max_size=3),
    lora=st.booleans(),
    max_time=st.one_of(st.none(), st.floats(1e-3, 1e9)),
)
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_settings_come_back(
    learning_rate: float, seed: int, prompts: list[str], lora: bool, max_time: float | None
) -> None:
    values = {
        "learning_rate": learning_rate,
        "seed": seed,
        "sample_prompts": prompts,
        "lora": lora,
        "lora.r": 4,
        "max_time": max_time,
    }
    round_trip(resolve([Given(name, value, "you") for name, value in values.items()]))
