"""Modules and functions stay small (CONTRIBUTING.md): below 300 lines, and 45 without the docstring.

What is larger is listed with its present size, which is then its limit. An entry that is no longer needed fails too, so
that the lists can only shrink.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src/selfrepair"
MODULE, FUNCTION = 300, 45

LARGE_MODULES: dict[str, int] = {}
LONG_FUNCTIONS: dict[str, int] = {}


def lines_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function from its `def` on, its docstring left out."""
    first, last = node.body[0], node.end_lineno
    documented = ast.get_docstring(node, clean=False) is not None
    docstring = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
    return (last or 0) - node.lineno + 1 - docstring


def functions(node: ast.AST, within: str = "") -> Iterator[tuple[str, int]]:
    """Every function with its lines, also those in classes, functions and conditions: `Class.method`."""
    for child in ast.iter_child_nodes(node):
        name = within
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{within}.{child.name}".lstrip(".")
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield name, lines_of(child)
        yield from functions(child, name)


def module_sizes() -> dict[str, int]:
    return {
        path.relative_to(SOURCE).as_posix(): len(path.read_text("utf-8").splitlines())
        for path in sorted(SOURCE.rglob("*.py"))
    }


def function_sizes() -> dict[str, int]:
    return {
        f"{module}: {name}": size
        for module in module_sizes()
        for name, size in functions(ast.parse((SOURCE / module).read_text("utf-8")))
    }


def over(sizes: dict[str, int], limit: int, listed: dict[str, int]) -> dict[str, int]:
    """What is larger than it may be, with its size."""
    return {name: size for name, size in sizes.items() if size > listed.get(name, limit)}


def needless(sizes: dict[str, int], limit: int, listed: dict[str, int]) -> list[str]:
    """Entries for what is gone, or is small enough without one."""
    return [name for name in listed if sizes.get(name, 0) <= limit]


def test_modules_are_small():
    sizes = module_sizes()
    assert len(sizes) > 200
    assert over(sizes, MODULE, LARGE_MODULES) == {}


def test_functions_are_short():
    sizes = function_sizes()
    assert len(sizes) > 1000
    assert over(sizes, FUNCTION, LONG_FUNCTIONS) == {}


def test_every_entry_of_the_lists_is_needed():
    assert needless(module_sizes(), MODULE, LARGE_MODULES) == []
    assert needless(function_sizes(), FUNCTION, LONG_FUNCTIONS) == []


@pytest.mark.parametrize("head", ["def f():", "async def f():", "class C:\n  def f(self):", "if True:\n  def f():"])
def test_lines_are_counted_without_docstrings_wherever_a_function_stands(head):
    indent = " " * (4 if "\n" in head else 2)
    docstring = f'{indent}"""Short.\n\n{indent}Long.\n{indent}"""'
    body = "\n".join([f"{indent}x = 1"] * 46)
    ((_, size),) = functions(ast.parse(f"{head}\n{docstring}\n{body}"))
    assert size == 47
    assert over({"f": size}, FUNCTION, {}) and over({"f": size}, FUNCTION, {"f": 46})
    assert not over({"f": size}, FUNCTION, {"f": 47})
    assert needless({"f": 45}, FUNCTION, {"f": 47, "gone": 50}) == ["f", "gone"]
