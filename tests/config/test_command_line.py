"""Options, settings and words of a command line."""

from pathlib import Path

import pytest

from headway.base.errors import Cause, Problems, UsageError
from headway.config.command_line import Switch, parse

OWN = {"list": Switch("list them", short="l"), "note": Switch("a note", "TEXT", short="n")}


def test_words_switches_and_settings_are_told_apart() -> None:
    found = parse(["notes.txt", "--list", "--lr", "2e-4", "lora.r=8"], OWN, settings=True)
    assert found.words == ["notes.txt"]
    assert found.on("list")
    assert [(one.name, one.value, one.origin) for one in found.given] == [
        ("--lr", "2e-4", "--lr"),
        ("lora.r", "8", "lora.r="),
    ]


@pytest.mark.parametrize(
    ("argv", "value"),
    [(["--bf16"], True), (["--no-bf16"], False), (["--bf16=false"], False)],
)
def test_a_boolean_setting_is_a_flag(argv: list[str], value: bool) -> None:
    assert parse(argv, {}, settings=True).settings()[1].bf16 is value


def test_a_value_may_be_negative_but_not_another_option() -> None:
    assert parse(["--note", "-1"], OWN, settings=False).switches == {"note": "-1"}
    with pytest.raises(UsageError, match="--note needs a value") as refusal:
        parse(["--note", "--list"], OWN, settings=False)
    assert refusal.value.cause is Cause.MISSING_ARGUMENT


def test_everything_after_two_hyphens_is_a_word() -> None:
    assert parse(["--", "--list", "x=1"], OWN, settings=True).words == ["--list", "x=1"]


def test_a_command_to_run_keeps_its_own_options() -> None:
    found = parse(["--list", "x", "--list", "-q"], OWN, settings=False, until_word=True)
    assert found.words == ["x", "--list", "-q"]
    assert found.switches == {"list": ""}


def test_a_list_setting_may_be_given_more_than_once() -> None:
    argv = ["--sample-prompts", "Once", "--sample-prompts", "Why"]
    assert parse(argv, {}, settings=True).settings()[1].sample_prompts == ("Once", "Why")


def test_an_unknown_option_is_refused_with_a_similar_one() -> None:
    with pytest.raises(UsageError, match="unknown option --lsit") as refusal:
        parse(["--lsit"], OWN, settings=False)
    assert refusal.value.cause is Cause.UNEXPECTED_ARGUMENT
    assert refusal.value.remedies[0].do == "--list"
    with pytest.raises(UsageError) as refusal:
        parse(["--max-lenght", "512"], OWN, settings=True).settings()
    assert refusal.value.cause is Cause.UNKNOWN_SETTING
    assert refusal.value.remedies[0].do == "--max-length 512"


def test_all_problems_are_listed_at_once() -> None:
    with pytest.raises(Problems) as refusal:
        parse(["--lsit", "--note"], OWN, settings=False)
    assert len(refusal.value.problems) == 2


def test_unknown_flags_invalid_values_and_unknown_lines_of_a_file_are_told_together(
    tmp_path: Path,
) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("cutoff_len: 512\nseed: 1\nseed: 2\n")
    argv = [str(file), "--n_layer", "6", "--lr", "fast", "--max-lenght", "8", "--seed"]
    found = parse([*argv, "--model", "m", "--preset", "tiny"], {}, settings=True)
    with pytest.raises(Problems) as refusal:
        found.settings()
    assert [problem.what.removeprefix(f"{file}:") for problem in refusal.value.problems] == [
        "--n_layer 6 is not available",
        "unknown setting --max-lenght",
        "--seed needs a value",
        "3:1: seed is set twice",
        "1:1: unknown setting cutoff_len",
        "--lr: invalid value fast",
        "--model and --preset cannot be combined",
    ]


def test_a_file_that_cannot_be_read_is_told_with_the_flags(tmp_path: Path) -> None:
    with pytest.raises(Problems) as refusal:
        parse([str(tmp_path / "no.yaml"), "--lr", "fast"], {}, settings=True).settings()
    assert len(refusal.value.problems) == 2


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--packing", "notes.txt"], ["notes.txt"]),  # data, not the switch's value
        (["--base_model", "notes.txt"], []),
        (["--packing", "true"], []),
        (["--max_iters", "-1", "notes.txt"], ["notes.txt"]),
    ],
)
def test_data_after_a_switch_of_another_tool_is_not_its_value(
    argv: list[str], words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("a")
    assert parse(argv, {}, settings=True).words == words


@pytest.mark.parametrize(
    ("word", "tried"),
    [
        ("cutoff_len=512", "max_length=512"),
        ("training.steps=100", "max_steps=100"),
        ("max_lenght=512", "max_length=512"),
        ("packing=true", "without packing=true"),
        ("dataset=a.jsonl", "headway train a.jsonl"),
    ],
)
def test_another_tools_name_and_value_are_no_file(word: str, tried: str) -> None:
    with pytest.raises(UsageError) as refusal:
        parse(["notes.txt", word], {}, settings=True).settings()
    assert [remedy.do for remedy in refusal.value.remedies] == [tried]


@pytest.mark.parametrize("word", ["https://host/a?name=b", "a=b.txt", "dir/max_lenght=1"])
def test_a_file_or_address_may_have_an_equals_sign(word: str) -> None:
    assert parse([word], {}, settings=True).words == [word]


def test_options_of_other_tools_get_ours_where_the_command_has_it() -> None:
    own = {"max_tokens": Switch("maximum new tokens", "N")}
    with pytest.raises(UsageError) as refusal:
        parse(["--max_new_tokens", "5"], own, settings=False)
    assert refusal.value.remedies[0].do == "--max-tokens"
    with pytest.raises(UsageError) as refusal:
        parse(["--max_new_tokens", "5"], OWN, settings=False)
    assert refusal.value.remedies[0].do == "--help"


def test_nothing_is_guessed_farther_than_a_typo() -> None:
    with pytest.raises(UsageError) as refusal:
        parse(["--listen"], OWN, settings=False)
    assert [remedy.do for remedy in refusal.value.remedies] == ["--help"]


def test_a_yaml_file_is_read_and_flags_override_it(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("data: notes.txt\nseed: 1\nlr: 1e-3\n")
    words, settings = parse([str(file), "--seed", "2"], {}, settings=True).settings()
    assert words == ("notes.txt",)
    assert (settings.seed, settings.learning_rate) == (2, 1e-3)


@pytest.mark.parametrize(
    ("argv", "switches"),
    [
        (["-l"], {"list": ""}),
        (["-n", "20"], {"note": "20"}),
        (["-n20"], {"note": "20"}),
        (["-n=20"], {"note": "20"}),
        (["-n", "-1"], {"note": "-1"}),
        (["-ln", "20"], {"list": "", "note": "20"}),
        (["-lqn20"], {"list": "", "quiet": "", "note": "20"}),
        (["-nl"], {"note": "l"}),
        (["-vh"], {"verbose": "", "help": ""}),
    ],
)
def test_an_option_may_be_a_letter(argv: list[str], switches: dict[str, str]) -> None:
    assert parse(argv, OWN, settings=False).switches == switches


def test_a_setting_may_be_a_letter() -> None:
    found = parse(["-m", "models/small", "-oout", "-q"], {}, settings=True)
    assert [(one.name, one.value) for one in found.given] == [
        ("--model", "models/small"),
        ("--output-dir", "out"),
    ]
    assert found.on("quiet")


@pytest.mark.parametrize("word", ["-x", "-lx", "-m", "-x=1"])
def test_a_letter_that_is_no_option_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match=f"unknown option {word[:2]}"):
        parse([word], OWN, settings=False)
    with pytest.raises(UsageError, match="--note needs a value"):
        parse(["-ln"], OWN, settings=False)


def test_a_name_with_one_hyphen_is_no_row_of_letters() -> None:
    found = parse(["-max_length", "64", "-lr=1e-3"], {}, settings=True)
    assert [(one.name, one.value) for one in found.given] == [
        ("--max_length", "64"),
        ("--lr", "1e-3"),
    ]


def test_standard_input_and_numbers_are_words() -> None:
    assert parse(["-", "-1", "--", "-l"], OWN, settings=True).words == ["-", "-1", "-l"]


def test_no_letter_stands_for_two_options() -> None:
    from collections import Counter

    from headway.cli import VERBS
    from headway.config.command_line import EVERYWHERE
    from headway.config.settings import table

    for verb in VERBS.values():
        switches = {**EVERYWHERE, **verb.options}.values()
        letters = [switch.short for switch in switches if switch.short]
        letters += [r.metadata["short"] for r in table() if verb.settings and r.metadata["short"]]
        assert max(Counter(letters).values()) == 1
