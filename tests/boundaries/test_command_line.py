"""What a person sees of odd things: the real command line, in fresh processes."""

import shutil
from pathlib import Path

import pytest
from tests.boundaries.odd_models import CONFIG, QUANTIZED, copied, template
from tests.stories.conftest import Headway

CASES = {
    "layers a word": (CONFIG["layers a word"], "config.json is not valid"),
    "quantized": (QUANTIZED["GPTQ"], "is a quantized model, which cannot be trained"),
    "a template that multiplies": (template("{{ 'a' * 10000000000 }}"), "chat_template.jinja"),
}


@pytest.fixture
def headway(tmp_path: Path) -> Headway:
    return Headway(tmp_path, tmp_path / "cache")


@pytest.mark.parametrize("case", CASES)
def test_an_odd_model_is_refused_in_four_parts(
    case: str, good: Path, chats: Path, headway: Headway
) -> None:
    change, said = CASES[case]
    copied(good, headway.here / "odd", change)
    told = headway("plan", chats, "--model", "odd")
    assert told.code == 2
    words = " ".join(told.err.split())
    assert said in words
    for label in ("have", "need", "try"):
        assert f"\n  {label} " in told.err
    assert "Traceback" not in told.err
    assert "bug" not in told.err


def test_a_name_that_is_not_utf8_is_refused_with_its_folder(headway: Headway) -> None:
    folder = headway.here / "data"
    folder.mkdir()
    path = folder / b"\xff.txt".decode(errors="surrogateescape")
    path.write_text("A line of text. " * 200)
    told = headway("plan", path)
    assert told.code == 2
    assert "is not UTF-8" in " ".join(told.err.split())
    assert f"try   headway train {folder}" in told.err
    assert headway("plan", folder).code == 0  # as it says


def test_a_user_without_an_entry_in_passwd_is_told_what_to_set(headway: Headway) -> None:
    assert shutil.which("unshare")
    headway.before = ["unshare", "--user", "--map-user=12345", "--map-group=12345"]
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"):
        headway.environment.pop(name, None)
    headway.write("notes.txt", "A line of text. " * 200)
    told = headway("plan", "notes.txt")
    assert told.code == 5
    assert "user 12345 has no home folder" in told.err
    assert "try   export HOME=$PWD" in told.err
    assert headway("plan", "notes.txt", HOME=str(headway.here)).code == 0  # as it says
