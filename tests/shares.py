"""Shares of the tests, one for each process of pytest-xdist: what takes long begins first."""

from collections.abc import Sequence

import pytest

_SLOW = {"stories", "failures", "examples", "test_api.py"}  # start processes that import torch


def in_shares(items: Sequence[pytest.Item], num_shares: int) -> list[pytest.Item]:
    """The same tests in the order of their shares, each of which begins with slow files.

    `--dist worksteal` gives each process as many, in this order, and takes from the end of the
    longest rest for one that is done: so a file stays with its fixtures in one process, and the
    last tests to run are short ones.
    """
    files: dict[str, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.nodeid.partition("::")[0], []).append(item)
    slow = [name for name in files if not _SLOW.isdisjoint(name.split("/"))]
    shares: list[list[pytest.Item]] = [[] for _ in range(num_shares)]
    for at, name in enumerate(slow):
        shares[at % num_shares] += files.pop(name)
    quick = [item for own in files.values() for item in own]
    left = len(items)
    for at, share in enumerate(shares):
        num = max(left // (num_shares - at) - len(share), 0)
        share += quick[:num]
        del quick[:num]
        left -= len(share)
    return [item for share in shares for item in share] + quick
