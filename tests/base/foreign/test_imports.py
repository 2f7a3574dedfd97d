import gc
import importlib
import json
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from headway.base.foreign import imports
from headway.base.foreign.imports import quick_imports

# transformers' table, made by its package and by the one of its models, and how often each file of
# a model was read for it.
TABLE = """
import collections, contextlib, hashlib, json, sys
from headway.base.foreign.imports import quick_imports

opened = collections.Counter()
sys.addaudithook(
    lambda event, words: event == "open" and opened.update([str(words[0])]) or None
)
with quick_imports() if sys.argv[1] == "quick" else contextlib.nullcontext():
    import transformers
    import transformers.models as models
read = [n for name, n in opened.items() if "/models/" in name and "/modeling_" in name]
from transformers.utils.import_utils import define_import_structure

def plain(table):
    return sorted(
        (sorted(needs), sorted((name, sorted(exported)) for name, exported in files.items()))
        for needs, files in table.items()
    )

tables = [
    define_import_structure(models.__path__[0], prefix="models"),
    define_import_structure(models.__path__[0] + "/__init__.py"),
    define_import_structure(models.__path__[0] + "/llama/__init__.py"),
]
text = json.dumps([plain(one) for one in tables])
names = dir(transformers) + dir(models)
print(json.dumps([hashlib.sha256(text.encode()).hexdigest(), len(text), names, max(read)]))
"""


def _table(how: str) -> list[Any]:
    command = [sys.executable, "-c", TABLE, how]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_transformers_has_the_same_table_from_one_look_at_each_file():
    *quick, read = _table("quick")
    *plain, read_before = _table("plain")
    assert quick == plain
    assert quick[1] > 100_000
    assert read == 1 < read_before, "transformers reads them once itself: this is needless now"


TEXTS = [
    "",
    "__all__ = ['A']",
    "x = 1\n__all__ = [\n    'A',\n    'B',\n]\n",
    "__all__ = ['A']\nx = '__all__'\n__all__ = ['B']\n",
    "x = 1\f__all__ = ['A']\n",
    "__all__ = ['A']\n\f__all__ = ['B']\n",
    "# __all__\n",
]


@pytest.mark.parametrize("text", TEXTS)
def test_the_names_in_a_file_are_those_that_transformers_finds(text: str):
    from transformers.utils.import_utils import fetch__all__

    module = SimpleNamespace(fetch__all__=fetch__all__)
    setattr(module, imports._MAKER, lambda path: path)
    imports._read_once(module)
    assert module.fetch__all__(text) == fetch__all__(text)


def test_another_transformers_is_imported_as_it_is():
    module = SimpleNamespace(fetch__all__=len)
    imports._read_once(module)
    assert vars(module) == {"fetch__all__": len}


def test_nothing_is_changed_where_transformers_is_imported_already():
    import transformers  # noqa: F401 - it is there

    finders = list(sys.meta_path)
    with quick_imports():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert sys.meta_path == finders


def test_garbage_is_collected_again_after_an_import_that_fails():
    with pytest.raises(ImportError), quick_imports():
        importlib.import_module("nowhere")
    assert gc.isenabled()
