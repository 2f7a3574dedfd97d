"""The page of models: what the tests saw of each family in the list."""

import types
from pathlib import Path
from typing import Any

import pytest
from tests.helpers import docs_script

JUNIT = """<testsuites><testsuite>
<testcase classname="tests.stories.test_model_families" name="test_it[llama-all weights]">
<properties><property name="kind" value="llama"/><property name="runs" value="packed"/></properties>
</testcase>
<testcase classname="tests.stories.test_model_families" name="test_it[llama-LoRA]">
<failure/></testcase>
<testcase classname="tests.stories.test_model_families" name="test_a_mistake_is_noticed[llama]"/>
<testcase classname="tests.bench.test_model_kinds" name="test_the_loss[opt]">
<properties><property name="runs" value="packed"/></properties></testcase>
<testcase classname="tests.bench.test_model_kinds" name="test_at_least"/>
<testcase classname="tests.bench.test_other" name="test_it[gpt2]"/>
</testsuite></testsuites>"""


@pytest.fixture
def made() -> types.ModuleType:
    return docs_script("make_models")


@pytest.fixture
def apart(made: types.ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The same with a list, a test and a page of its own."""
    for name, file in {"LIST": "list.yaml", "SEEN": "seen.json", "PAGE": "page.md"}.items():
        monkeypatch.setattr(made, name, tmp_path / file)
    monkeypatch.setattr(made, "FAMILIES", tmp_path / "test_model_families.py")
    made.FAMILIES.write_text('FAMILIES: Mapping[str, str] = {"llama": PACKED}\n')
    made.LIST.write_text("- kind: llama\n  models: Llama 3\n")
    (tmp_path / "junit.xml").write_text(JUNIT)
    return made


def test_every_family_was_tested_and_the_page_is_what_was_seen(made: types.ModuleType) -> None:
    assert made.main(["--check"]) == 0, "run: make docs"
    assert len(made.families()) >= 16


def test_what_was_seen_is_read_from_pytests_account(apart: Any, tmp_path: Path) -> None:
    seen = apart.read_junit(tmp_path / "junit.xml")
    assert list(seen["families"]) == ["llama-all weights", "llama-LoRA"]
    full, lora = seen["families"].values()
    assert (full["outcome"], full["runs"], lora["outcome"]) == ("passed", "packed", "failed")
    assert list(seen["kinds"]) == ["opt"]


def test_a_failure_is_on_the_page_and_the_check_names_it(
    apart: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    apart.main(["--junit", str(tmp_path / "junit.xml")])
    page = apart.PAGE.read_text()
    assert "| `llama` | Llama 3 | yes | **no** | packed |" in page
    assert "- **Packed** (1): `opt`." in page
    assert apart.main(["--check"]) == 1
    assert capsys.readouterr().out == "llama, LoRA: failed; run: make models\n"


@pytest.mark.parametrize(
    ("tested", "problem"),
    [
        ('"llama": A, "gpt2": A', "gpt2: is tested, and docs/models.yaml does not list it"),
        ("", "llama: docs/models.yaml lists it, and test_model_families.py does not test it"),
    ],
)
def test_list_and_tests_have_the_same_families(apart: Any, tested: str, problem: str) -> None:
    apart.FAMILIES.write_text(f"FAMILIES: Mapping[str, str] = {{{tested}}}\n")
    assert problem in list(apart.problems())


def test_a_page_that_was_changed_by_hand_is_noticed(
    apart: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    apart.main(["--junit", str(tmp_path / "junit.xml")])
    apart.PAGE.write_text(apart.PAGE.read_text() + "\n")
    apart.main(["--check"])
    assert "docs/models.md differs from what was seen: make docs" in capsys.readouterr().out


def test_later_runs_replace_the_same_kinds_alone(apart: Any, tmp_path: Path) -> None:
    apart.main(["--junit", str(tmp_path / "junit.xml")])
    apart.record({"families": {}, "kinds": {"gptj": {"outcome": "passed", "date": "2026-11-30"}}})
    assert set(apart.recorded()["kinds"]) == {"opt", "gptj"}
