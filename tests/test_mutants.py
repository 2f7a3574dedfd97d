"""Mutants replace what is there, and fail where it is not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.mutants import checked, site

RIGHT = "import json\njson.dumps = print\n"
WRONG = "import json\njson.dumbs = print\n"


def test_a_name_that_is_there_is_replaced() -> None:
    names: dict[str, object] = {}
    exec(checked("import types\nit = types.SimpleNamespace(a=1, b=2)\nit.a, it.b = 3, 4"), names)
    assert vars(names["it"]) == {"a": 3, "b": 4}


@pytest.mark.parametrize(
    "code",
    [
        WRONG,
        "import json\njson.loads, json.dumbs = 1, 2",
        "import json\nif True:\n    json.dumbs = print",
        "import json\ntry:\n    pass\nfinally:\n    json.JSONEncoder.dumbs = print",
    ],
)
def test_a_name_that_is_not_there_is_an_error(code: str) -> None:
    with pytest.raises(AttributeError, match="dumbs"):
        exec(checked(code), {})


def test_what_functions_of_a_mutant_set_is_theirs() -> None:
    code = "class It:\n    def __init__(self):\n        self.new = 1\nit = It()"
    names: dict[str, object] = {}
    exec(checked(code), names)
    assert vars(names["it"]) == {"new": 1}


@pytest.mark.parametrize(
    ("code", "condition", "ends_with"),
    [(RIGHT, "True", 0), (WRONG, "True", 70), (WRONG, "'another' in sys.argv", 0)],
)
def test_a_process_does_not_go_on_without_its_mutant(
    tmp_path: Path, code: str, condition: str, ends_with: int
) -> None:
    (tmp_path / "sitecustomize.py").write_text(site(code, condition))
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    ended = subprocess.run([sys.executable, "-c", ""], env=environment, capture_output=True)
    assert ended.returncode == ends_with, ended.stderr
