"""Moments of Adam in an archive of torch.save, told from weights by their position.

An archive numbers its tensors in the order they were saved and names none. Weights come first;
then, for each parameter, the step as a number of its own and two moments of the parameter's
length. Moments move even at a learning rate of 0.
"""

from headway.base.foreign.tensors import STORAGE, Comparison, TensorBytes, Tensors, compare

_SCALAR_BYTES = 8  # at most


def compare_without_moments(first: Tensors, second: Tensors, max_bytes: int) -> Comparison:
    """Compare two archives; those that differ in steps and moments alone have equal weights.

    Args:
        first: by name.
        second: by name.
        max_bytes: to read of each.

    Raises:
        OSError: a file cannot be read.
    """
    equal: list[int] = []  # lengths of tensors
    moved: list[int] = []
    for name in sorted(first.keys() & second.keys(), key=_number):
        one, left = first[name], max_bytes - sum(equal) - sum(moved)
        compared = compare({name: one}, {name: second[name]}, left)
        if compared.differs is None or not _is_alike(one, second[name]):
            return Comparison(0, None)
        if compared.differs and not equal and one.bytes > _SCALAR_BYTES:
            return Comparison(1, differs=True)  # the first weight: nothing more to read
        (moved if compared.differs else equal).append(one.bytes)
    weights = [length for length in equal if length > _SCALAR_BYTES]
    if not weights or not _are_moments(moved, equal):
        return Comparison(len(equal) + len(moved), differs=True)
    return Comparison(len(weights), differs=False)


def _are_moments(moved: list[int], equal: list[int]) -> bool:
    """Whether what moved is (step, moment, moment) for parameters that did not."""
    partners = list(equal)
    at = 0
    while at < len(moved):
        is_step = moved[at] <= _SCALAR_BYTES
        pair = moved[at + 1 : at + 3]
        if is_step and len(pair) == 2 and pair[0] == pair[1] and pair[0] in partners:
            partners.remove(pair[0])
            at += 3
        elif is_step:
            at += 1  # a counter, or the step of an optimizer that keeps it alone
        else:
            return False
    return True


def _number(name: str) -> int:
    return int(name.removeprefix(STORAGE))


def _is_alike(one: TensorBytes, other: TensorBytes) -> bool:
    return one.bytes == other.bytes
