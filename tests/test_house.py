"""Modules and functions stay small (CONTRIBUTING.md): below 300 lines, and 45 without the docstring. A public name
stands for one thing.

What is larger is listed with its present size, which is then its limit; a name that is defined twice, with the modules
that define it. An entry that is no longer needed fails too, so that the lists can only shrink.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src/selfrepair"
MODULE, FUNCTION = 300, 45

LARGE_MODULES: dict[str, int] = {}
LONG_FUNCTIONS: dict[str, int] = {}

# Names with more than one definition that mean the same: where they may be defined, as patterns of paths.
SAME_MEANING = {
    # a verb of the command line, and the function that answers it
    "ablate": "cli/ablate.py questions/asked.py",
    "audit": "cli/audit.py questions/asked.py questions/circuit/audit.py",
    "card": "cli/card.py questions/asked.py",
    "compare": "cli/compare.py run/gathering/compare_runs.py",
    "resume": "cli/resume.py run/measure.py",
    "status": "cli/status.py run/scheduling/run_status.py",
    "who": "cli/who.py questions/asked.py questions/covering/who.py",
    "graph": "cli/graph.py questions/asked.py",
    "interact": "cli/interact.py questions/asked.py",
    "recruit": "cli/recruit.py questions/asked.py",
    # a verb's file, and that of its answer or subject
    "audit.py": "cli/audit.py questions/circuit/audit.py",
    "graph.py": "cli/graph.py questions/graph.py",
    "names.py": "cli/names.py ablation/names.py",
    "prompts.py": "cli/prompts.py prompts/prompts.py",
    "who.py": "cli/who.py questions/covering/who.py",
    # members of one registry, found by these names
    "detect": "prompts/formats/*.py",
    "read": "prompts/formats/*.py",
    "prompt_of": "prompts/formats/*.py",
    "exhibits": "paper/experiments/*.py",
    # the format of this package: for circuits, for prompts
    "own.py": "circuits/readers/own.py prompts/formats/own.py",
    # one for each benchmark
    "benchmark.py": "bench/*/benchmark.py",
}


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


def public_names() -> Iterator[tuple[str, str]]:
    """Every public top-level class or function, and every file name but `__init__.py`, with its module."""
    for module in module_sizes():
        if not module.endswith("__init__.py"):
            yield module.rpartition("/")[2], module
        for node in ast.parse((SOURCE / module).read_text("utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name[0] != "_":
                yield node.name, module


def defined_twice(names: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    modules: dict[str, set[str]] = {}
    for name, module in names:
        modules.setdefault(name, set()).add(module)
    return {name: homes for name, homes in modules.items() if len(homes) > 1}


def patterns(*lists: Mapping[str, str]) -> dict[str, list[str]]:
    """Where each listed name may be defined."""
    return {name: " ".join(listed.get(name, "") for listed in lists).split() for listed in lists for name in listed}


def unlisted(twice: Mapping[str, set[str]], listed: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Names defined twice, with the modules in which no entry allows that."""
    rest = {name: sorted(m for m in homes if not allowed(m, listed.get(name, ()))) for name, homes in twice.items()}
    return {name: modules for name, modules in rest.items() if modules}


def allowed(module: str, where: Iterable[str]) -> bool:
    return any(fnmatch(module, pattern) for pattern in where)


def needless_patterns(twice: Mapping[str, set[str]], listed: Mapping[str, list[str]]) -> list[tuple[str, str]]:
    """Entries for names that are defined once by now, or nowhere where the pattern points."""
    return [
        (name, pattern)
        for name, where in listed.items()
        for pattern in where
        if not any(fnmatch(module, pattern) for module in twice.get(name, ()))
    ]


def test_a_public_name_stands_for_one_thing():
    names = list(public_names())
    assert len(names) > 1000
    twice, listed = defined_twice(names), patterns(SAME_MEANING)
    assert unlisted(twice, listed) == {}
    assert needless_patterns(twice, listed) == []


def test_names_that_stand_for_two_things_are_found():
    twice = defined_twice(
        [("Part", "a/x.py"), ("Part", "b/y.py"), ("read", "a/x.py"), ("read", "a/z.py"), ("run", "c.py")]
    )
    assert unlisted(twice, {}) == {"Part": ["a/x.py", "b/y.py"], "read": ["a/x.py", "a/z.py"]}
    assert unlisted(twice, {"read": ["a/*"], "Part": ["a/x.py"]}) == {"Part": ["b/y.py"]}
    listed = {"Part": ["a/x.py", "b/gone.py"], "read": ["a/*"], "run": ["c.py"]}
    assert needless_patterns(twice, listed) == [("Part", "b/gone.py"), ("run", "c.py")]


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
