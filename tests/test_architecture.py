"""The rules of the house: floors, names, captions, causes, lengths, words, and the lock."""

import ast
import re
import tomllib
import types
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from importlinter import cli
from tests.helpers import docs_script

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "headway"
MODULES = sorted(PACKAGE.rglob("*.py"))
NAMED = [path for path in MODULES if path.stem != "__init__"]
LONGEST_FILE, LONGEST_FUNCTION, MOST_FILES = 400, 60, 14
LOCK = (ROOT / "requirements" / "lock.txt").read_text()
# What nothing may be called any more, and what it is called.
OLD_MODULES = {
    "fitting": "sizing",
    "placing": "placement",
    "closing": "write_receipt",
    "accounts": "data_ledger",
    "mishap": "out_of_memory",
    "smaller": "out_of_memory",
    "sharing": "prefix_sharing",
    "prefixes": "shared_prefixes",
    "flow": "stream",
    "flows": "streaming",
    "feed": "client",
    "reader": "reader_process",
    "windows": "window",
    "start": "initial_weights",
    "origin": "model_source",
    "costs": "run_time",
    "proof": "probes, evaluate, audit",
    "settle_compiled": "compile_trial",
    "claims": "verify_checks",
    "making": "maker",
    "mending": "refusals",
    "refused": "refusals",
    "items": "records",
    "lighter": "fused_ops",
    "compiled": "fused_ops",
    "copies": "mixed_precision",
    "patience": "retry",
    "stored": "versioned_json",
    "elsewhere": "other_tools",
    "telling": "spinner",
    "looking": "status",
    "keeping": "archives",
    "asking": "inference",
    "room": "shared_memory",
    "job": "attempt, trainer",
    "loop": "step",
    "schedule": "optimizer",
    "resuming": "setup",
    "calibrate": "trials",
}
# Covered by the tests of their neighbors; each still wants a file of its own.
TESTED_ELSEWHERE = {
    "base/version.py",
}
OLD_NAMES = (
    *("Place", "Stand", "Told", "Notes", "Wish", "Feed", "Flow", "Origin", "Here", "Job", "Tried"),
    *("told", "retold", "judged", "halved", "typical", "alike", "gone_on", "go_on", "foretell"),
)


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def make_tree() -> types.ModuleType:
    return docs_script("make_tree")


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


# -- floors, folders, files


def test_imports_only_go_down(capsys: pytest.CaptureFixture[str]) -> None:
    passed = cli.lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert passed == 0, capsys.readouterr().out


def test_no_folder_is_crowded() -> None:
    crowds = Counter(path.parent for path in NAMED)
    assert [str(folder) for folder, num in crowds.items() if num > MOST_FILES] == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_file_and_no_function_is_too_long_to_read(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST_FILE
    functions = [n for n in ast.walk(parsed(path)) if isinstance(n, ast.FunctionDef)]
    long = [f.name for f in functions if (f.end_lineno or 0) - f.lineno >= LONGEST_FUNCTION]
    assert long == []


@pytest.mark.parametrize("path", NAMED, ids=name_of)
def test_every_module_has_a_test_file_of_its_name(path: Path) -> None:
    place = ROOT / "tests" / path.relative_to(PACKAGE).parent / f"test_{path.name}"
    assert place.exists() or name_of(path) in TESTED_ELSEWHERE


# -- captions and names


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_opens_with_a_caption(path: Path) -> None:
    caption, *rest = (ast.get_docstring(parsed(path)) or "").split("\n")
    assert caption
    assert caption.endswith(".")
    assert not rest or rest[0] == "", "the caption is one line"


def test_no_two_public_classes_have_one_name() -> None:
    classes = Counter(
        node.name
        for path in MODULES
        for node in parsed(path).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert [name for name, num in classes.items() if num > 1] == []


def test_nothing_has_a_name_that_was_given_up() -> None:
    files = {path.stem for path in NAMED} | {path.name for path in PACKAGE.rglob("*/")}
    assert sorted(files & OLD_MODULES.keys()) == []
    defined = {name: path.name for path in MODULES for name in definitions(parsed(path))}
    assert {name: defined[name] for name in OLD_NAMES if name in defined} == {}


def definitions(tree: ast.Module) -> Iterator[str]:
    """The names of all classes, functions and fields of a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


# -- causes, not sentences

SENTENCES = {"what", "have", "need", "line"}


@pytest.mark.parametrize("path", NAMED, ids=name_of)
def test_nothing_branches_on_a_sentence(path: Path) -> None:
    """No text of a refusal or finding is compared, searched or taken apart."""
    assert [node.lineno for node in ast.walk(parsed(path)) if reads_a_sentence(node)] == []


def reads_a_sentence(node: ast.AST) -> bool:
    match node:
        case ast.Compare(ops=[ast.Is() | ast.IsNot()]):
            return False  # whether there is one at all
        case ast.Compare(left=left, comparators=others):
            return any(map(is_sentence, (left, *others)))
        case ast.Call(func=ast.Attribute(value=value, attr=method)):
            taking = ("startswith", "endswith", "partition", "rpartition", "split", "find", "index")
            return method in (*taking, "removeprefix", "removesuffix") and is_sentence(value)
        case _:
            return False


def is_sentence(node: ast.AST) -> bool:
    """`refusal.what`, `finding.need`, `str(error)` of a refusal, ..."""
    return isinstance(node, ast.Attribute) and node.attr in SENTENCES


@pytest.mark.parametrize("path", NAMED, ids=name_of)
def test_text_files_are_utf_8_in_any_locale(path: Path) -> None:
    """Whoever reads or writes a text file says in which encoding."""
    unsaid = [
        node.lineno
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("read_text", "write_text")
        and not any(keyword.arg == "encoding" for keyword in node.keywords)
    ]
    assert unsaid == []


# -- the tree in the README


def test_the_tree_names_every_folder_and_what_to_read_first() -> None:
    made = make_tree()
    tree = "\n".join(made.tree(PACKAGE))
    folders = {path.parent.name for path in MODULES if path.name == "__init__.py"}
    assert folders == set(re.findall(r"^ *(\w+)/ ", tree, re.MULTILINE)) | {"headway"}
    first = made.reading_order()
    assert len(first) == 6
    assert all(path.exists() and path.name in tree for path in first)


def test_a_stale_tree_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_tree()
    monkeypatch.setattr(made, "README", tmp_path / "README.md")
    (tmp_path / "README.md").write_text("<!-- tree --><!-- /tree -->")
    assert made.main(["--check"]) == 1
    assert "make docs" in capsys.readouterr().out
    assert made.main([]) == 0
    assert made.main(["--check"]) == 0


# -- the words

WORD = re.compile(r"^- \*\*([\w -]+)\*\* \(`(\w+)`\): ", re.MULTILINE)
# Files of a run's folder and events: what they hold must have its word.
MUST_HAVE_WORDS = ("Plan", "Settled", "Receipt", "Event", "Pulse", "Checkpoint", "Phase", "Cause")


def test_every_word_is_in_the_code_and_what_the_code_keeps_has_its_word() -> None:
    page = (ROOT / "docs" / "words.md").read_text()
    words = dict(WORD.findall(page))
    assert len(words) == page.count("\n- **"), "each word names its place in the code"
    known = {name for path in MODULES for name in definitions(parsed(path))}
    missing = {word: place for word, place in words.items() if place not in known}
    assert missing == {}
    assert set(MUST_HAVE_WORDS) <= set(words.values())


# -- the table of settings


def test_the_table_of_settings_is_what_the_code_says() -> None:
    assert docs_script("make_settings").main(["--check"]) == 0, "run: make docs"


def test_a_stale_table_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = docs_script("make_settings")
    page = tmp_path / "configuration.md"
    page.write_text("# Before\n<!-- settings -->\nold\n<!-- /settings -->\nafter\n")
    monkeypatch.setattr(made, "PAGE", page)
    assert made.main(["--check"]) == 1
    assert made.main([]) == 0
    assert made.main(["--check"]) == 0
    assert page.read_text().startswith("# Before\n<!-- settings -->\n| setting |")
    assert page.read_text().endswith("|\n<!-- /settings -->\nafter\n")


def test_the_tables_of_other_tools_words_are_what_the_code_says() -> None:
    assert docs_script("make_words").main(["--check"]) == 0, "run: make docs"


def test_a_stale_table_of_words_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = docs_script("make_words")
    for name in made.PAGES:
        (tmp_path / name).write_text("# Before\n<!-- words -->\nold\n<!-- /words -->\nafter\n")
    monkeypatch.setattr(made, "DOCS", tmp_path)
    assert made.main(["--check"]) == 1
    assert made.main([]) == 0
    assert made.main(["--check"]) == 0


# -- the lock


def locked() -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+) \\$", LOCK, re.MULTILINE))


def test_f64_every_locked_package_has_hashes() -> None:
    for block in re.split(r"^(?=[a-z0-9-]+==)", LOCK, flags=re.MULTILINE)[1:]:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block[:80]


def test_the_lock_holds_all_that_pyproject_asks_for_but_torch() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    wanted = [
        *(project["build-system"]["requires"] + project["project"]["dependencies"]),
        # What the measurements stand beside is pinned there, and nothing that Headway needs.
        *(one for name, extra in extras.items() if not name.startswith("bench") for one in extra),
    ]
    names = {re.split(r"[<>=\[ ]", one)[0] for one in wanted} - {"headway", "torch"}
    assert sorted(names - locked().keys()) == []


def test_the_lock_leaves_the_choice_of_torch_open() -> None:
    brought = [n for n in locked() if n in ("torch", "triton") or n.startswith(("nvidia", "cuda"))]
    assert brought == []


def test_the_lock_names_no_host_and_no_folder() -> None:
    assert re.findall(r"https?://|file:/|--index|--find|/home|/tmp", LOCK) == []
