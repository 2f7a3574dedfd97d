"""Mutants of the program, from outside: they replace what they name, and only what is there."""

import ast
import textwrap
from collections.abc import Iterator

# Python goes on without a sitecustomize that fails; a test of a mutant must not.
_FAILS_LOUDLY = """
import os, sys, traceback
try:
{code}
except BaseException:
    traceback.print_exc()
    sys.stderr.flush()
    os._exit(70)
"""


def checked(code: str) -> str:
    """The same code, which raises AttributeError where it would set a name that is not there.

    A mutant that patches a function under a name it had once would change nothing, and the test
    that wants it caught would be about the program as it is.
    """
    tree = ast.parse(textwrap.dedent(code))
    _check(tree.body)
    return ast.unparse(ast.fix_missing_locations(tree))


def site(code: str, condition: str = "True") -> str:
    """A sitecustomize.py with a mutant.

    Args:
        code: of the mutant.
        condition: where it applies; may use `sys`.
    """
    mutant = f"if {condition}:\n{textwrap.indent(checked(code), '    ')}"
    return _FAILS_LOUDLY.format(code=textwrap.indent(mutant, "    "))


def _check(body: list[ast.stmt]) -> None:
    """Insert a look at each attribute before it is set, outside of functions and classes."""
    at = 0
    while at < len(body):
        one = body[at]
        looks = [ast.Expr(_loaded(target)) for target in _set_attributes(one)]
        body[at:at] = looks
        at += len(looks) + 1
        if not isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            for name in ("body", "orelse", "finalbody"):
                _check(getattr(one, name, []))


def _set_attributes(statement: ast.stmt) -> Iterator[ast.Attribute]:
    if isinstance(statement, ast.Assign):
        for target in statement.targets:
            parts = target.elts if isinstance(target, ast.Tuple) else [target]
            yield from (part for part in parts if isinstance(part, ast.Attribute))


def _loaded(target: ast.Attribute) -> ast.Attribute:
    return ast.Attribute(target.value, target.attr, ast.Load())
