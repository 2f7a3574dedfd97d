"""What an extra brings, and the line that installs what is missing."""

import tomllib
from pathlib import Path

import pytest

from headway.base.errors import Cause, UsageError
from headway.base.host import packages
from headway.base.host.packages import CPU_INDEX, TRAIN, missing_package, require, training_remedies

ALL = "pip install 'headway[train]'"
WITHOUT_CUDA = f"pip install torch --index-url {CPU_INDEX} && {ALL}"


def test_the_table_is_what_pyproject_asks_for() -> None:
    project = tomllib.loads(Path(__file__, "../../../../pyproject.toml").resolve().read_text())
    wanted = project["project"]["optional-dependencies"]["train"]
    assert {f"{name}>={version}" for name, version in TRAIN.items()} == set(wanted)


def test_what_is_not_installed_is_named() -> None:
    require("train", ("json", "pathlib"))
    with pytest.raises(UsageError) as refused:
        require("train", ("json", "no_such_package", "nor_this"))
    assert refused.value.cause is Cause.MISSING_PACKAGE
    assert refused.value.what == "headway train needs packages that are not installed"
    assert refused.value.have == "headway without no_such_package, nor_this"
    assert refused.value.remedies[0].do == ALL


@pytest.mark.parametrize(
    ("module", "extra"),
    [
        ("numpy", "train"),
        ("numpy.typing", "train"),
        ("pyarrow", "parquet"),
        ("datasets", "hub"),
        ("gguf", "export"),
    ],
)
def test_an_import_that_fails_names_the_extra_that_brings_it(module: str, extra: str) -> None:
    refused = missing_package(ModuleNotFoundError("", name=module))
    assert refused is not None
    assert refused.cause is Cause.MISSING_PACKAGE
    assert refused.remedies[0].do == f"pip install 'headway[{extra}]'"


@pytest.mark.parametrize("module", ["headway.no_such_module", "no_such_package", None])
def test_an_import_that_no_extra_helps_is_no_missing_package(module: str | None) -> None:
    assert missing_package(ModuleNotFoundError("", name=module)) is None


@pytest.mark.parametrize(
    ("nvidia", "system", "torch", "lines"),
    [
        ("", "Linux x86_64", True, [ALL, WITHOUT_CUDA]),
        ("/dev/nvidia0", "Linux x86_64", True, [ALL]),
        ("", "Darwin arm64", True, [ALL]),
        ("", "Linux x86_64", False, [ALL]),  # torch is here already
    ],
)
def test_cuda_is_left_out_where_nothing_can_use_it(
    nvidia: str, system: str, torch: bool, lines: list[str]
) -> None:
    assert [r.do for r in training_remedies(nvidia, system, torch=torch)] == lines


def test_a_broken_package_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: str) -> None:
        raise ValueError("its __spec__ is None")

    monkeypatch.setattr(packages.importlib.util, "find_spec", broken)
    with pytest.raises(UsageError):
        require("plan", ("no_such_package",))
