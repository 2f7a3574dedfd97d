"""The same failures with transformers' Trainer, TRL and Headway, in one run.

Usage:
    python bench/failures_peers.py               all cases; writes results/DATE-failures.*
    python bench/failures_peers.py --only F30    one case (an id, or a part of its name)
    python bench/failures_peers.py --system TRL  one of them
    python bench/failures_peers.py --merge       keep the results of cases that do not run
    python bench/failures_peers.py --list

with the Python of build/bench, which has Trainer and TRL (`make build/bench/.ready`).
Everybody gets the same data, the same model and the same settings, in a script as a person writes
it, and is judged by the same function: `failures/cases.py`.
"""

import argparse
import json
import re
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from failures.cases import CASES, Case, said
from failures.systems import SYSTEMS, Facts, System
from report import machine, versions
from trials import HERE

RESULTS = HERE / "results"
ENDED_BY_US = (None, -9)  # after its time, or by SIGKILL
_SHOWN_LINES = 2


def tried(case: Case, system: System, folder: Path) -> dict[str, Any]:
    """Put a system through a case; what came of it."""
    found = system.run(case.starts, folder)
    judged, last = case.judge(found), found[-1]
    line = said(last.output, case.says)
    return {
        "exit_codes": [facts.exit_code for facts in found],
        "noticed": last.exit_code not in (0, *ENDED_BY_US) or bool(line),
        "said_why": bool(line),
        "handled": judged.handled,
        "lost": judged.lost,
        "line": _plain(line),
        "last_lines": _last_lines(last.output),
        "facts": [_without_output(facts) for facts in found],
    }


def _without_output(facts: Facts) -> dict[str, Any]:
    return {name: value for name, value in asdict(facts).items() if name != "output"}


def _last_lines(output: str) -> list[str]:
    lines = [_plain(line) for line in re.split(r"[\r\n]+", output)]
    return [line for line in lines if line][-_SHOWN_LINES:]


def _plain(line: str) -> str:
    """A line for a page: no folders of this machine, no bars, not too long."""
    line = re.sub(r"(/[\w.+-]+){2,}/", ".../", line.replace("|", " ").replace("\r", " "))
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", line).split())[:200]


def all_tried(cases: Sequence[Case], systems: Sequence[System]) -> dict[str, Any]:
    """Every case with every one of these systems."""
    found: dict[str, Any] = {}
    for case in cases:
        at = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        found[case.id] = {"title": case.title, "at": at, "systems": {}}
        for system in systems:
            with tempfile.TemporaryDirectory(prefix="failing-") as name:
                folder = Path(name)
                case.make(folder)
                began_s = time.monotonic()
                one = tried(case, system, folder)
            found[case.id]["systems"][system.name] = one
            print(
                f"{case.id} {case.title}: {system.name}: exit {one['exit_codes'][-1]}, "
                f"noticed {one['noticed']}, said why {one['said_why']}, "
                f"handled {one['handled']}, lost {one['lost']}, "
                f"{time.monotonic() - began_s:.0f} s",
                flush=True,
            )
            print(f"    {one['line'] or one['last_lines']}", flush=True)
    return found


# -- the page ------------------------------------------------------------------------------------


def page(result: dict[str, Any]) -> str:
    """The result for people."""
    cases: dict[str, Any] = result["cases"]
    names = [system.name for system in SYSTEMS]
    times = [case["at"] for case in cases.values()]
    lines = [
        f"# The same failures with Trainer, TRL and Headway, {result['date']}",
        "",
        ", ".join(f"{name} {number}" for name, number in result["versions"].items()) + ".",
        "",
        "The same data, model and settings for each, in a script as a person writes it",
        "(`bench/peers/failing.py`; Headway: its command line). **Bold** is handled: nothing was",
        "lost, or the exit code says that something was, by the same function for all",
        "(`bench/failures/cases.py`). What had to be ended by us has no exit code.",
        f"Cases ran from {min(times)} to {max(times)}, beside other work on the machine.",
        "",
        f"| | {' | '.join(names)} |",
        f"|---|{'---|' * len(names)}",
    ]
    for id_, case in cases.items():
        cells = [_cell(case["systems"].get(name)) for name in names]
        lines.append(f"| {id_} {case['title']} | {' | '.join(cells)} |")
    totals = [_num_handled(cases.values(), name) for name in names]
    lines.append(f"| handled, of {len(cases)} | {' | '.join(map(str, totals))} |")
    lines += ["", "## What each of them printed"]
    for id_, case in cases.items():
        lines += ["", f"### {id_}: {case['title']}", ""]
        lines += [
            _printed(name, case["systems"][name]) for name in names if name in case["systems"]
        ]
    return "\n".join(lines) + "\n"


def _cell(one: dict[str, Any] | None) -> str:
    if one is None:
        return "not run"
    code = one["exit_codes"][-1]
    how = "says why" if one["said_why"] else "an error" if one["noticed"] else "not noticed"
    lost = "nothing lost" if one["lost"] == "nothing" else f"lost: {one['lost']}"
    text = f"{how}; {lost}; {_code(code)}"
    return f"**{text}**" if one["handled"] else text


def _code(code: int | None) -> str:
    return "ended by us" if code in ENDED_BY_US else f"exit {code}"


def _num_handled(cases: Iterable[dict[str, Any]], name: str) -> int:
    return sum(case["systems"].get(name, {}).get("handled", False) for case in cases)


def _printed(name: str, one: dict[str, Any]) -> str:
    codes = ", then ".join(map(_code, one["exit_codes"]))
    shown = [one["line"]] if one["line"] else one["last_lines"]
    quoted = " / ".join(f"`{line.replace('`', chr(39))}`" for line in shown) or "nothing"
    return f"- {name} ({codes}): {quoted}"


def main() -> None:
    """Run, show, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", help="an id, or a part of a case's name")
    parser.add_argument("--system", help="one of Trainer, TRL, Headway", default="")
    parser.add_argument("--merge", action="store_true", help="keep what is there of other cases")
    parser.add_argument("--list", action="store_true", help="show the cases")
    asked = parser.parse_args()
    cases = [case for case in CASES if not asked.only or asked.only.lower() in case.name.lower()]
    if asked.list:
        print("\n".join(f"{case.id}  {case.title}" for case in cases))
        return
    date = f"{datetime.now(UTC):%Y-%m-%d}"
    path = RESULTS / f"{date}-failures.json"
    found = all_tried(cases, [one for one in SYSTEMS if asked.system in ("", one.name)])
    if asked.only and not asked.merge:
        return
    if asked.merge and path.exists():
        there = json.loads(path.read_text())["cases"]
        for id_, case in found.items():
            case["systems"] = there.get(id_, {}).get("systems", {}) | case["systems"]
        found = {case.id: (there | found)[case.id] for case in CASES if case.id in there | found}
    result = {
        "schema": "headway.failures/1",
        "date": date,
        "machine": machine(),
        "versions": versions("trl", "datasets"),
        "cases": found,
    }
    path.write_text(json.dumps(result, indent=1) + "\n")
    path.with_suffix(".md").write_text(page(result))


if __name__ == "__main__":
    main()
