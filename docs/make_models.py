"""Write docs/models.md: which families of models are trained, and how, from what the tests saw.

Usage:
    python docs/make_models.py --run          run the tests of models; write the page
    python docs/make_models.py --junit FILE   take what they saw from a run made elsewhere
    python docs/make_models.py                write the page from what ran last
    python docs/make_models.py --check        exit 1 when page, list and tests do not fit together

The list is docs/models.yaml; what the tests saw is in docs/models.json.
"""

import ast
import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

DOCS = Path(__file__).parent
ROOT = DOCS.parent
LIST = DOCS / "models.yaml"
SEEN = DOCS / "models.json"
PAGE = DOCS / "models.md"
FAMILIES = ROOT / "tests" / "stories" / "test_model_families.py"
KINDS = ROOT / "tests" / "bench" / "test_model_kinds.py"
MODES = ("all weights", "LoRA")
PACKED, ALONE, REFUSED = "packed", "one at a time", "refused"
INTRODUCTION = """# Models

Headway trains causal language models that transformers loads from a folder with `config.json` and
`*.safetensors`: `--model DIR` or `--model owner/name`. Before step 1, it compares what it computes,
on your model and your data, with what the model computes alone. So a model that is not listed here
is either trained correctly or refused.

- **Packed**: documents share a row without padding, and each sees itself alone.
- **One at a time**: each document runs through the model by itself, with the model's own attention.
  The result is the same, and it takes longer. The run says so before step 1, with the reason.
"""
TESTED = """## Families

Each family was trained with all weights and with adapters (`--lora`), as a small random model with
two layers, in fp32 on a processor (not yet run on a GPU). The first loss and the gradient of every
tensor equal those of transformers, which computes one document at a time. The saved model, loaded
by transformers, has the loss that the run measured. A run that was stopped and resumed ends with
the same bits. [The test](../tests/stories/test_model_families.py).
"""
OTHERS = """## Other kinds

Small random models of which the loss alone was compared, by transformers' name of the kind
(`model_type` in `config.json`). [The test](../tests/bench/test_model_kinds.py).
"""


@dataclass(frozen=True)
class Family:
    """A family of the list.

    Attributes:
        kind: transformers' name.
        models: that people know.
    """

    kind: str
    models: str


Seen = dict[str, dict[str, Any]]  # kind, or kind-mode -> outcome, runs, adapters


def families() -> list[Family]:
    """The list, in its order."""
    return [Family(**one) for one in yaml.safe_load(LIST.read_text())]


def tested_families() -> set[str]:
    """The kinds in the test's table; nothing is imported."""
    for node in ast.walk(ast.parse(FAMILIES.read_text())):
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "FAMILIES":
            assert isinstance(node.value, ast.Dict)
            return {ast.literal_eval(key) for key in node.value.keys if key}
    return set()


def problems() -> Iterator[str]:
    """Where list, tests and what was seen do not fit together."""
    listed, tested = {one.kind for one in families()}, tested_families()
    for kind in sorted(tested - listed):
        yield f"{kind}: is tested, and docs/models.yaml does not list it"
    for kind in sorted(listed - tested):
        yield f"{kind}: docs/models.yaml lists it, and {FAMILIES.name} does not test it"
    seen = recorded()["families"]
    for kind in sorted(listed & tested):
        for mode in MODES:
            outcome = seen.get(f"{kind}-{mode}", {}).get("outcome", "not run")
            if outcome != "passed":
                yield f"{kind}, {mode}: {outcome}; run: make models"


# -- what ran


def read_junit(path: Path) -> dict[str, Seen]:
    """What the tests of models saw."""
    found: dict[str, Seen] = {"families": {}, "kinds": {}}
    groups = {FAMILIES.stem: "families", KINDS.stem: "kinds"}
    for case in ElementTree.parse(path).iter("testcase"):
        group = groups.get(case.attrib["classname"].rpartition(".")[2])
        name, _, of = case.attrib["name"].removesuffix("]").partition("[")
        if group is None or not of or name == "test_a_mistake_is_noticed":
            continue
        failed = any(case.find(tag) is not None for tag in ("failure", "error"))
        properties = {p.attrib["name"]: p.attrib["value"] for p in case.iter("property")}
        properties.pop("kind", None)
        found[group][of] = {
            "outcome": "failed" if failed else "passed",
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            **properties,
        }
    return found


def recorded() -> dict[str, Any]:
    """What was seen last."""
    return json.loads(SEEN.read_text()) if SEEN.exists() else {"families": {}, "kinds": {}}


def record(seen: dict[str, Seen]) -> None:
    """Keep what was seen in place of what was seen of the same kinds before, and the versions."""
    whole = recorded()
    for group, found in seen.items():
        whole[group] |= found
    whole["versions"] = {name: version(name) for name in ("torch", "transformers", "peft")}
    SEEN.write_text(json.dumps(whole, indent=1, sort_keys=True) + "\n")


def run_tests() -> Path:
    """Run the tests of models; returns pytest's own account."""
    report = ROOT / "build" / "models.xml"
    report.parent.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "pytest", "-n", "2", str(FAMILIES), str(KINDS)]
    subprocess.run([*command, f"--junitxml={report}"], cwd=ROOT, check=False)
    return report


# -- the page


def page() -> str:
    """The whole page."""
    seen = recorded()
    versions = " · ".join(f"{name} {text}" for name, text in seen.get("versions", {}).items())
    lines = [
        *INTRODUCTION.splitlines(),
        "",
        *TESTED.splitlines(),
        "",
        "| family | models | all weights | LoRA: adapters on | documents in a row |",
        "|---|---|---|---|---|",
        *(_row(one, seen["families"]) for one in families()),
        "",
        f"Tested {_dates(seen['families'])}: {versions}.",
        "",
        *OTHERS.splitlines(),
        "",
        *_kinds(seen["kinds"], {one.kind for one in families()}),
    ]
    return "\n".join(lines) + "\n"


def _row(family: Family, seen: Seen) -> str:
    full, lora = (seen.get(f"{family.kind}-{mode}", {}) for mode in MODES)
    adapters = _outcome(lora)
    if lora.get("adapters"):
        adapters = f"{adapters}: {', '.join(lora['adapters'].split())}"
    how = PACKED
    if full.get("runs") != PACKED:
        how = full.get("runs", "").removeprefix("documents run ")
    cells = [f"`{family.kind}`", family.models, _outcome(full), adapters, how]
    return f"| {' | '.join(cells)} |"


def _dates(seen: Seen) -> str:
    dates = sorted({one["date"] for one in seen.values()})
    return " to ".join(dict.fromkeys((dates[0], dates[-1]))) if dates else "never"


def _outcome(seen: dict[str, Any]) -> str:
    return {"passed": "yes", "failed": "**no**"}.get(seen.get("outcome", ""), "not run")


def _kinds(seen: Seen, families: set[str]) -> Iterator[str]:
    """A line for each way to run."""
    names = {
        PACKED: "Packed",
        ALONE: "One at a time",
        REFUSED: "Refused, since their tokens see the ones that they are to predict",
    }
    for runs, title in names.items():
        kinds = [
            f"`{kind}`"
            for kind, one in sorted(seen.items())
            if kind not in families and (one["outcome"], one.get("runs")) == ("passed", runs)
        ]
        yield f"- **{title}** ({len(kinds)}): {', '.join(kinds)}."
    failed = [kind for kind, one in sorted(seen.items()) if one["outcome"] != "passed"]
    if failed:
        yield f"- **Failed**: {', '.join(failed)}."


def main(arguments: list[str]) -> int:
    """Run, write, or compare."""
    if "--check" in arguments:
        found = list(problems())
        if not PAGE.exists() or PAGE.read_text() != page():
            found.append("docs/models.md differs from what was seen: make docs")
        print("\n".join(found), end="\n" if found else "")
        return int(bool(found))
    if "--run" in arguments:
        record(read_junit(run_tests()))
    if "--junit" in arguments:
        record(read_junit(Path(arguments[arguments.index("--junit") + 1])))
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
