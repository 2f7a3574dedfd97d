"""The list of what goes wrong: every mode has a test, and the page is what ran."""

import types
from pathlib import Path
from typing import Any

import pytest
from tests.helpers import docs_script

DOCS = Path(__file__).resolve().parents[2] / "docs"
JUNIT = """<testsuites><testsuite>
<testcase classname="tests.runs.test_plan" name="test_d01_no_steps"/>
<testcase classname="tests.runs.test_plan" name="test_f30_s02_each[nan]"/>
<testcase classname="tests.runs.test_plan" name="test_f30_s02_each[inf]"><failure/></testcase>
<testcase classname="tests.runs.test_plan" name="test_f30_s02_each[0]"/>
<testcase classname="tests.runs.test_plan" name="test_b01_later"><skipped/></testcase>
<testcase classname="tests.runs.test_plan" name="test_without_an_id"/>
</testsuite></testsuites>"""


@pytest.fixture
def made() -> types.ModuleType:
    return docs_script("make_failures")


@pytest.fixture
def apart(made: types.ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The same with a list, outcomes, a page and tests of its own."""
    for name, file in {"CATALOGUE": "list.yaml", "RAN": "ran.json", "PAGE": "page.md"}.items():
        monkeypatch.setattr(made, name, tmp_path / file)
    monkeypatch.setattr(made, "RESULTS", tmp_path)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").write_text("def test_d01_F30_both() -> None: ...\n")
    by_id = made.named_by_id
    monkeypatch.setattr(made, "named_by_id", lambda: by_id(tmp_path / "tests"))
    write(made, d01={"test": "tests/test_a.py::test_d01_F30_both"}, f30={"not_yet": "no"})
    return made


def write(made: Any, **modes: dict[str, str]) -> None:
    """A list with these modes."""
    lines = ["- group: All", "  modes:"]
    for name, fields in modes.items():
        texts = {"elsewhere": "hangs", "headway": "refuses", "when": "at once"} | fields
        lines += [f"  - id: {name.upper()}", *(f"    {k}: {v!r}" for k, v in texts.items())]
    made.CATALOGUE.write_text("\n".join(lines) + "\n")


def test_every_mode_has_its_test_and_the_page_is_what_ran(made: types.ModuleType) -> None:
    assert made.main(["--check"]) == 0, "run: make docs"


def test_ids_are_read_from_names_of_tests(made: types.ModuleType) -> None:
    assert made.ids_in("test_f30_S02_a_nan_in_the_middle") == {"F30", "S02"}
    assert made.ids_in("test_cpu_flags_of_x86_and_arm") == set()
    assert made.ids_in("test_a_row_of_40") == set()


@pytest.mark.parametrize(
    ("modes", "problem"),
    [
        ({"d01": {"test": "tests/test_a.py::test_gone"}}, "D01: there is no test tests/test_a.py"),
        ({"d01": {}}, "D01: there is no test under its id"),
        ({"d01": {"not_yet": "no inbox"}}, "D01: there is a test, tests/test_a.py::test_d01_F30"),
        ({"d01": {"headway": "", "test": "x"}}, "D01: docs/failures.yaml does not say"),
        ({}, "tests/test_a.py::test_d01_F30_both: docs/failures.yaml has no D01"),
    ],
    ids=str,
)
def test_what_does_not_fit_together_is_told(
    apart: Any, capsys: pytest.CaptureFixture[str], modes: dict[str, Any], problem: str
) -> None:
    write(apart, f30={"not_yet": "no"}, **modes)
    assert apart.main(["--check"]) == 1
    assert problem in capsys.readouterr().out


def test_a_stale_page_is_told_and_written(apart: Any) -> None:
    write(apart, **{one: {"test": "tests/test_a.py::test_d01_F30_both"} for one in ("d01", "f30")})
    assert apart.main(["--check"]) == 1
    assert apart.main([]) == 0
    assert apart.main(["--check"]) == 0
    page = apart.PAGE.read_text()
    assert "2 ways to fail: 2 have a test, 0 do not yet. None of the tests has been run" in page
    assert (
        "| D01 | hangs | refuses | at once | [test_d01_F30_both](../tests/test_a.py): not run |"
        in page
    )


def test_a_test_passed_if_all_its_cases_did(apart: Any, tmp_path: Path) -> None:
    (tmp_path / "junit.xml").write_text(JUNIT)
    found = apart.read_junit(tmp_path / "junit.xml", "2026-11-30")
    assert {name.partition("::")[2]: one["outcome"] for name, one in found.items()} == {
        "test_d01_no_steps": "passed",
        "test_f30_s02_each": "failed",
    }
    assert {name.partition("::")[0] for name in found} == {"tests/runs/test_plan.py"}


def test_a_case_of_a_test_for_many_is_named(apart: Any, tmp_path: Path) -> None:
    (tmp_path / "tests" / "test_many.py").write_text("ALL = ['gil']\ndef test_all(): ...\n")
    apart.DOCS = tmp_path / "docs"
    both = {"test": "tests/test_a.py::test_d01_F30_both"}
    write(apart, d01=both, f30=both, f07={"test": "tests/test_many.py::test_all[gil]"})
    assert list(apart.problems()) == []
    cases = "".join(
        f'<testcase classname="tests.test_many" name="test_all[{name}]"/>' for name in ("gil", "x")
    )
    (tmp_path / "junit.xml").write_text(f"<testsuites>{cases}</testsuites>")
    assert apart.main(["--junit", str(tmp_path / "junit.xml")]) == 0
    assert list(apart.recorded()) == ["tests/test_many.py::test_all[gil]"]
    assert "[test_all[gil]](../tests/test_many.py): 1 passed" in apart.PAGE.read_text()
    write(apart, d01=both, f30=both, f07={"test": "tests/test_many.py::test_all[lock]"})
    assert [one.partition(":")[0] for one in apart.problems()] == ["F07"]


def test_outcomes_of_tests_that_are_gone_are_dropped(apart: Any, tmp_path: Path) -> None:
    (tmp_path / "junit.xml").write_text(JUNIT.replace("tests.runs.test_plan", "tests.test_a"))
    apart.record(
        {"tests/test_a.py::test_d01_F30_both": {"date": "2026-11-29", "outcome": "passed"}}
    )
    assert apart.main(["--junit", str(tmp_path / "junit.xml")]) == 0
    assert list(apart.recorded()) == ["tests/test_a.py::test_d01_F30_both"]
    assert "1 tests ran (2026-11-29); all passed." in apart.PAGE.read_text()


def test_a_failure_is_on_the_page(apart: Any) -> None:
    name = "tests/test_a.py::test_d01_F30_both"
    apart.record({name: {"date": "2026-11-30", "outcome": "failed"}})
    apart.main([])
    assert f"1 failed: {name}." in apart.PAGE.read_text()
    assert "1 of 1 failed, 2026-11-30" in apart.PAGE.read_text()


def test_the_comparison_with_other_trainers_is_part_of_the_page(apart: Any, tmp_path: Path) -> None:
    (tmp_path / "2026-11-29-failures.md").write_text("# A\n\n| old |\n")
    (tmp_path / "2026-11-30-failures.md").write_text("# B\n\n| new |\n|---|\ntext\n")
    apart.main([])
    assert "| new |\n|---|\n" in apart.PAGE.read_text()
    assert "| old |" not in apart.PAGE.read_text()
