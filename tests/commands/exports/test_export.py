"""export: which model, which options, and what does not go together."""

from pathlib import Path

import pytest
from tests.export.folders import adapter_folder, model_folder
from tests.ui.fixtures import conversations_plan

from headway.base.errors import Cause, UsageError
from headway.base.files import write_folder
from headway.commands.exports.export import (
    export_options,
    export_request,
    find_model,
    needed_modules,
)
from headway.config.command_line import parse
from headway.export.request import ExportOptions


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A run with two checkpoints."""
    folder = tmp_path / "runs" / "support-b"
    folder.mkdir(parents=True)
    conversations_plan().save(folder)
    for step in (10, 20):
        write_folder(folder / f"checkpoint-{step}", lambda f: (f / "headway.json").write_text("{}"))
    return tmp_path / "runs"


# -- which model


def test_a_run_is_its_newest_checkpoint(runs: Path) -> None:
    newest = runs / "support-b" / "checkpoint-20"
    for word in ("support-b", str(runs / "support-b"), None):
        assert find_model(word, runs) == (newest, newest.parent, "support-b")


def test_a_checkpoint_that_is_named_is_the_one(runs: Path) -> None:
    older = runs / "support-b" / "checkpoint-10"
    assert find_model(str(older), runs) == (older, older.parent, "support-b")
    (older / "headway.json").write_text("{ }")
    with pytest.raises(UsageError) as refused:
        find_model(str(older), runs)
    assert refused.value.cause is Cause.CHECKPOINT_DAMAGED
    assert find_model(refused.value.remedies[0].do.split()[2], runs)[0].name == "checkpoint-20"


def test_any_folder_with_a_model_or_adapters_will_do(tmp_path: Path) -> None:
    base = model_folder(tmp_path / "base")
    adapter = adapter_folder(tmp_path / "adapter", base)
    assert find_model(str(base), tmp_path / "runs") == (base, None, "base")
    assert find_model(str(adapter), tmp_path / "runs") == (adapter, None, "adapter")


@pytest.mark.parametrize("word", ["nothing", "empty"])
def test_what_is_no_model_is_refused(runs: Path, word: str) -> None:
    (runs.parent / "empty").mkdir()
    with pytest.raises(UsageError) as refused:
        find_model(str(runs.parent / word), runs)
    assert refused.value.cause is Cause.RUN_NOT_FOUND


# -- options


def options(*words: str, name: str = "notes") -> ExportOptions:
    from headway.cli import VERBS

    switches = parse(words, VERBS["export"].options, settings=False).switches
    return export_options(switches, name)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--to", "hf"), {"quantize": "f32", "name": "notes", "verify": "if possible"}),
        (("--to", "hf", "--quantize", "BF16"), {"quantize": "bf16"}),
        (("--to", "hf", "--adapter-only"), {"adapter_only": True}),
        (("--to", "gguf"), {"quantize": "f16"}),
        (("--to", "gguf", "--quantize", "q4_k_m", "--verify"), {"verify": "always"}),
        (("--to", "gguf", "--no-verify"), {"verify": "never"}),
        (
            ("--to=ollama", "--name", "my-model", "--system", "Be brief.", "--num-ctx", "4096"),
            {"name": "my-model", "system": "Be brief.", "num_ctx": 4096},
        ),
    ],
)
def test_options_are_what_was_typed(words: tuple[str, ...], expected: dict[str, object]) -> None:
    found = options(*words)
    assert {name: getattr(found, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ((), Cause.MISSING_ARGUMENT),
        (("--to", "onnx"), Cause.INVALID_VALUE),
        (("--to", "hf", "--quantize", "q8_0"), Cause.INVALID_VALUE),
        (("--to", "gguf", "--quantize", "q3"), Cause.INVALID_VALUE),
        (("--to", "gguf", "--adapter-only"), Cause.CONTRADICTION),
        (("--to", "gguf", "--system", "x"), Cause.CONTRADICTION),
        (("--to", "hf", "--num-ctx", "8"), Cause.CONTRADICTION),
        (("--to", "hf", "--verify", "--no-verify"), Cause.CONTRADICTION),
        (("--to", "hf", "--adapter-only", "--quantize", "f16"), Cause.CONTRADICTION),
        (("--to", "gguf", "--name", "../x"), Cause.INVALID_VALUE),
        (("--to", "ollama", "--num-ctx", "many"), Cause.INVALID_VALUE),
    ],
)
def test_what_does_not_go_together_is_refused(words: tuple[str, ...], cause: Cause) -> None:
    with pytest.raises(UsageError) as refused:
        options(*words)
    assert refused.value.cause is cause
    assert refused.value.remedies


def test_a_format_of_gguf_files_comes_with_the_line_that_writes_one() -> None:
    with pytest.raises(UsageError) as refused:
        options("--to", "hf", "--quantize", "q8_0")
    assert options(*refused.value.remedies[0].do.split())


@pytest.mark.parametrize(
    ("words", "modules"),
    [
        (("--to", "hf"), ()),
        (("--to", "gguf", "--quantize", "q8_0"), ("gguf",)),
        (("--to", "ollama", "--quantize", "q4_k_m"), ("gguf", "xllamacpp")),
    ],
)
def test_what_a_format_needs_is_known_before_anything_is_read(
    words: tuple[str, ...], modules: tuple[str, ...]
) -> None:
    assert needed_modules(options(*words)) == modules


def test_a_base_for_a_whole_model_is_refused(tmp_path: Path) -> None:
    base = model_folder(tmp_path / "base")
    adapter = adapter_folder(tmp_path / "adapter", base)
    switches = {"to": "hf", "model": str(base), "out": str(tmp_path / "out")}
    assert export_request(str(adapter), tmp_path, switches).base == str(base)
    with pytest.raises(UsageError) as refused:
        export_request(str(base), tmp_path, switches)
    assert refused.value.cause is Cause.CONTRADICTION


def test_a_name_from_a_folder_is_a_name_for_a_file() -> None:
    assert getattr(options("--to", "hf", name="Mein Modell (2)"), "name", "") == "Mein-Modell-2"


# -- where to


def test_without_a_folder_the_name_says_what_it_is(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs.parent)
    outputs = {
        "exports/support-b-hf": {"to": "hf"},
        "exports/support-b-hf-bf16": {"to": "hf", "quantize": "bf16"},
        "exports/support-b-gguf": {"to": "gguf"},
        "exports/support-b-gguf-q8_0": {"to": "gguf", "quantize": "q8_0"},
        "out": {"to": "hf", "out": "out"},
    }
    for output, switches in outputs.items():
        request = export_request("support-b", runs, switches)
        assert request.output == str(runs.parent / output)
        assert request.run == str(runs / "support-b")


def test_a_folder_with_something_else_is_refused_before_anything_is_read(runs: Path) -> None:
    (runs.parent / "thesis").mkdir()
    (runs.parent / "thesis" / "chapter1.txt").touch()
    with pytest.raises(UsageError) as refused:
        export_request("support-b", runs, {"to": "hf", "out": str(runs.parent / "thesis")})
    assert refused.value.cause is Cause.NOT_WRITABLE
