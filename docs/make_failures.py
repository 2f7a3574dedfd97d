"""Write docs/failures.md: what goes wrong in training, what Headway does, and the tests that ran.

Usage:
    python docs/make_failures.py --run          run all tests whose names have an id; write the page
    python docs/make_failures.py --junit FILE   take their outcomes from a run made elsewhere
    python docs/make_failures.py                write the page from what ran last
    python docs/make_failures.py --check        exit 1 when page, list and tests do not fit together

The list is docs/failures.yaml, the outcomes are in docs/failures.json.
"""

import ast
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

DOCS = Path(__file__).parent
ROOT = DOCS.parent
CATALOGUE = DOCS / "failures.yaml"
RAN = DOCS / "failures.json"
PAGE = DOCS / "failures.md"
RESULTS = ROOT / "bench" / "results"
_ID = re.compile(r"[A-Z][0-9]{2}")
_NO_IDS = {"X86"}  # a processor
HEAD = "| | what people see elsewhere | what Headway does | how soon | test |"
INTRODUCTION = """# What goes wrong in training

How training fails elsewhere, what Headway does about it, and the test that shows it. Test names
contain the ids: `pytest -k f30` runs the tests of F30. `make failures` runs all of them and writes
this page from [failures.yaml](failures.yaml) and their outcomes; long campaigns run separately
(`make chaos`). For an index by symptom, see [symptoms](symptoms/README.md).
"""


@dataclass(frozen=True)
class Mode:
    """One way in which training fails.

    Attributes:
        id: that the names of its tests have.
        elsewhere: what people see in other trainers.
        headway: what Headway does.
        when: how soon.
        test: the one to read first, FILE::NAME; "" if there is none. FILE::NAME[CASE] is a case of
            a test that is made for many.
        not_yet: what is missing, "" if nothing is.
    """

    id: str
    elsewhere: str
    headway: str
    when: str
    test: str = ""
    not_yet: str = ""

    @property
    def is_case(self) -> bool:
        """Whether its test is a case of one that is made for many."""
        return self.test.endswith("]")


Outcomes = dict[str, dict[str, str]]  # FILE::NAME -> date, outcome


def catalogue() -> dict[str, list[Mode]]:
    """All modes by group, in their order."""
    groups: list[dict[str, Any]] = yaml.safe_load(CATALOGUE.read_text())
    return {group["group"]: [Mode(**mode) for mode in group["modes"]] for group in groups}


def all_modes() -> list[Mode]:
    """All modes, without their groups."""
    return [mode for modes in catalogue().values() for mode in modes]


def named_by_id(folder: Path = ROOT / "tests") -> dict[str, list[str]]:
    """FILE::NAME of every test whose name has an id, by id; nothing is imported."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(folder.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for id_ in ids_in(node.name):
                    found[id_].append(f"{path.relative_to(folder.parent)}::{node.name}")
    return found


def ids_in(name: str) -> set[str]:
    """The ids in the name of a test."""
    words = name.upper().split("_")
    return {word for word in words if _ID.fullmatch(word)} - _NO_IDS


def problems() -> Iterator[str]:
    """Where list and tests do not fit together."""
    tests, modes = named_by_id(), {mode.id: mode for mode in all_modes()}
    for id_, names in tests.items():
        if id_ not in modes:
            yield f"{names[0]}: docs/failures.yaml has no {id_}"
        elif modes[id_].not_yet:
            yield f"{id_}: there is a test, {names[0]}, and docs/failures.yaml says not yet"
    for mode in modes.values():
        if not mode.not_yet:
            if not (mode.headway and mode.when):
                yield f"{mode.id}: docs/failures.yaml does not say what Headway does, and when"
            there = has_case(mode.test) if mode.is_case else mode.test in tests[mode.id]
            if not there:
                yield f"{mode.id}: there is no test {mode.test or 'under its id'}"


def has_case(test: str) -> bool:
    """Whether a file has a test of this name, and the name of the case as a text."""
    file, _, name = test.partition("::")
    name, _, case = name.removesuffix("]").partition("[")
    path = DOCS.parent / file
    nodes = list(ast.walk(ast.parse(path.read_text()))) if path.exists() else []
    functions = {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    texts = {node.value for node in nodes if isinstance(node, ast.Constant)}
    return name in functions and case in texts


# -- what ran


def read_junit(path: Path, date: str) -> Outcomes:
    """The outcomes of a run of pytest, of tests whose names have an id.

    A test with several cases passed if all of them did.
    """
    found: Outcomes = {}
    listed = {mode.test for mode in all_modes() if mode.is_case}
    for case in ElementTree.parse(path).iter("testcase"):
        name = case.attrib["name"].partition("[")[0]
        file = case.attrib["classname"].replace(".", "/") + ".py"
        tags = {child.tag for child in case}
        keys = {f"{file}::{name}"} if ids_in(name) else set[str]()
        keys |= {f"{file}::{case.attrib['name']}"} & listed
        if "skipped" in tags:
            continue
        outcome = "failed" if tags & {"failure", "error"} else "passed"
        for key in keys:
            if found.get(key, {}).get("outcome") != "failed":
                found[key] = {"date": date, "outcome": outcome}
    return found


def recorded() -> Outcomes:
    """What ran last."""
    return json.loads(RAN.read_text()) if RAN.exists() else {}


def record(outcomes: Outcomes) -> None:
    """Keep outcomes in place of earlier ones of the same tests; drop tests that are gone."""
    there = {name for names in named_by_id().values() for name in names}
    there |= {mode.test for mode in all_modes()}
    kept = {name: one for name, one in (recorded() | outcomes).items() if name in there}
    RAN.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


def run_tests() -> Path:
    """Run every test whose name has an id; returns pytest's own account."""
    report = ROOT / "build" / "failures.xml"
    report.parent.mkdir(exist_ok=True)
    by_id = {name for names in named_by_id().values() for name in names}
    names = sorted(by_id | {mode.test for mode in all_modes() if mode.is_case})
    command = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "worksteal", *names]
    subprocess.run([*command, f"--junitxml={report}"], cwd=ROOT, check=False)
    return report


# -- the page


def page() -> str:
    """The whole page."""
    outcomes = recorded()
    by_id: dict[str, list[dict[str, str]]] = defaultdict(list)
    for name, outcome in sorted(outcomes.items()):
        for id_ in ids_in(name.partition("::")[2]):
            by_id[id_].append(outcome)
    modes = all_modes()
    num_tested = sum(not mode.not_yet for mode in modes)
    lines = [
        *INTRODUCTION.splitlines(),
        "",
        f"{len(modes)} ways to fail: {num_tested} have a test, {len(modes) - num_tested} do not "
        f"yet. {_summary(outcomes)}",
    ]
    for group, group_modes in catalogue().items():
        lines += ["", f"## {group}", "", HEAD, "|---|---|---|---|---|"]
        for mode in group_modes:
            case = [outcomes[mode.test]] if mode.is_case and mode.test in outcomes else []
            lines.append(_row(mode, by_id[mode.id] + case))
    return "\n".join([*lines, *_peers()]) + "\n"


def _summary(outcomes: Outcomes) -> str:
    failed = sorted(name for name, one in outcomes.items() if one["outcome"] == "failed")
    if not outcomes:
        return "None of the tests has been run for this page."
    dates = sorted({one["date"] for one in outcomes.values()})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    ending = f"{len(failed)} failed: {', '.join(failed)}." if failed else "all passed."
    return f"{len(outcomes)} tests ran ({when}); {ending}"


def _row(mode: Mode, outcomes: list[dict[str, str]]) -> str:
    if mode.not_yet:
        return f"| {mode.id} | {mode.elsewhere} | **not yet**: {mode.not_yet} | | |"
    file, _, name = mode.test.partition("::")
    cells = [mode.id, mode.elsewhere, mode.headway, mode.when]
    return f"| {' | '.join(cells)} | [{name}](../{file}): {_ran(outcomes)} |"


def _ran(outcomes: list[dict[str, str]]) -> str:
    """How many tests of a mode ran, and what came of it."""
    if not outcomes:
        return "not run"
    num, failed = len(outcomes), sum(one["outcome"] == "failed" for one in outcomes)
    date = max(one["date"] for one in outcomes)
    return f"{failed} of {num} failed, {date}" if failed else f"{num} passed, {date}"


def _peers() -> list[str]:
    """The newest comparison with other trainers; nothing if there is none."""
    newest = max(RESULTS.glob("*-failures.md"), default=None)
    if newest is None:
        return []
    table = [line for line in newest.read_text().splitlines() if line.startswith("|")]
    return [
        "",
        "## Beside other trainers",
        "",
        "The same case for each, in one run of `bench/failures_peers.py`; commands and what they",
        f"printed are in [{newest.name}](../bench/results/{newest.name}).",
        "",
        *table,
    ]


def main(arguments: list[str]) -> int:
    """Run, write, or compare."""
    if "--check" in arguments:
        found = list(problems())
        if not PAGE.exists() or PAGE.read_text() != page():
            found.append("docs/failures.md differs from docs/failures.yaml: make docs")
        print("\n".join(found), end="\n" if found else "")
        return int(bool(found))
    date = f"{datetime.now(UTC):%Y-%m-%d}"
    if "--run" in arguments:
        record(read_junit(run_tests(), date))
    if "--junit" in arguments:
        record(read_junit(Path(arguments[arguments.index("--junit") + 1]), date))
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
