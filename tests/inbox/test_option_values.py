"""How the options of an inbox are read, whether typed or from a file."""

import pytest

from headway.inbox.neighbor.hours import Hours
from headway.inbox.option_values import READERS
from headway.inbox.recall.gate import GateTerm


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("on_duplicate", "train", "train"),
        ("priority", ["a*", "b*,c"], ("a*", "b*", "c")),
        ("train_between", "22-7", Hours(1320, 420)),
        ("keep_models", "all", None),
        ("keep_models", "5", 5),
        ("after_file", None, ""),
        ("promote_if", "improved", (GateTerm.IMPROVED,)),
        ("notify", "", ""),
        ("notify", "https://ntfy.sh/x", "https://ntfy.sh/x"),
        ("disk_budget", "20GB", 20 * 10**9),
        ("disk_budget", "1 GiB", 2**30),
        ("disk_budget", "none", None),
        ("nice", "0", 0),
        ("nice", 0, 0),
        ("nice", "19", 19),
        ("gpu_memory", "500MB", 5 * 10**8),
        ("give_way", "true", True),
        ("give_way", True, True),
        ("give_way", "false", False),
        ("idle_minutes", "0", 0.0),
        ("idle_minutes", "0.5", 0.5),
        ("idle_minutes", "1440", 1440.0),
    ],
)
def test_what_is_read(name: str, value: object, read: object) -> None:
    assert READERS[name][0](value) == read


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("on_duplicate", "maybe"),
        ("priority", "a,,b"),
        ("train_between", "late"),
        ("keep_models", "1"),
        ("keep_models", None),
        ("promote_if", None),
        ("notify", "ntfy.sh/x"),
        ("notify", "file:///etc/passwd"),
        ("disk_budget", "much"),
        ("disk_budget", None),
        ("disk_budget", "-1GB"),
        ("nice", "-5"),
        ("nice", "20"),
        ("nice", "nan"),
        ("nice", None),
        ("gpu_memory", "80%"),
        ("give_way", "perhaps"),
        ("give_way", None),
        ("idle_minutes", "-1"),
        ("idle_minutes", "inf"),
        ("idle_minutes", None),
    ],
)
def test_what_is_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        READERS[name][0](value)


@pytest.mark.parametrize("name", sorted(READERS))
def test_every_example_can_be_given(name: str) -> None:
    read, example = READERS[name]
    read(example)
