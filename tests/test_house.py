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
    # a verb's file, and that of its answer or subject
    "audit.py": "cli/audit.py questions/circuit/audit.py",
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
    # one for each experiment or benchmark
    "figures.py": "paper/experiments/*/figures.py",
    "study.py": "paper/study.py paper/experiments/*/study.py",
    "benchmark.py": "bench/*/benchmark.py",
}

# Names that stand for two things and have yet to be renamed.
NOT_RENAMED_YET = {
    "Asked": "bench/ioi/benchmark.py questions/asked.py",
    "Attention": "ablation/sites.py engine/watched.py",
    "Batch": "paper/inputs/corpus.py questions/measuring/batches.py",
    "Call": "engine/delta/rules/call.py model/trace.py",
    "Choice": "engine/choice.py paper/experiments/noise.py",
    "Circuit": "bench/planted/circuits.py circuits/circuit.py",
    "Claim": "paper/claims/claim.py questions/claims/claims_file.py",
    "Column": "pages.py questions/tables/cells.py",
    "Format": "circuits/source.py prompts/formats/read.py",
    "Mean": "ablation/operators.py prompts/check.py",
    "Prompts": "paper/experiments/name_movers/prompts.py prompts/prompts.py",
    "Readout": "effects/readouts.py model/anatomy.py",
    "Setting": "bench/ioi/benchmark.py run/planning/setting_fields.py",
    "Source": "ablation/operators.py circuits/source.py",
    "Verdict": "paper/claims/claim.py questions/circuit/verdict.py",
    "about": "paper/experiments/self_gain/scan_heads.py paper/pictures/captions.py questions/tables/records.py",
    "all_heads": "ablation/sites.py paper/experiments/self_gain/scan_figure.py",
    "at_predictions": "engine/accounts.py paper/inputs/recorded_replay.py",
    "card": "statistics/pooled.py",
    "check": "cli/check.py prompts/check.py",
    "choose": "engine/choice.py paper/experiments/noise.py",
    "choose_heads": "paper/experiments/neurons/study.py paper/experiments/self_gain/chosen_heads.py",
    "compare": "paper/experiments/published/per_head.py",
    "controls": "paper/experiments/self_gain/dose_figures.py questions/covering/freeze.py",
    "divide": "engine/delta/rules/arithmetic.py paper/numbers/over_documents.py",
    "draw": "bench/planted/circuits.py pictures/with_matplotlib.py",
    "interval": "bench/ranking.py statistics/intervals.py",
    "joined": "paper/numbers/over_documents.py questions/measuring/prompt_effects.py",
    "judge": "paper/claims/__init__.py questions/claims/judging.py",
    "labels": "questions/covering/motifs.py statistics/labels.py",
    "largest": "paper/claims/claim.py statistics/filters.py statistics/largest.py",
    "load": "model/load.py prompts/formats/content.py",
    "made_by_name": "ablation/operators.py engine/__init__.py",
    "measure": "bench/ioi/benchmark.py run/measure.py",
    "names": "cli/names.py paper/experiments/overview/runs_beside.py",
    "per_token": "paper/experiments/noise.py statistics/fieller.py",
    "places_of": "ablation/name_lists.py questions/paths/source_places.py",
    "plain": "model/plain_copy.py terminal.py",
    "read": "bench/planted/features.py engine/delta/probes.py",
    "read_heads": "paper/experiments/published/reference_folder.py results/netcdf.py",
    "write": "bench/planted/features.py paper/page/paper_folder.py",
    "ablated.py": "questions/ablated.py questions/tables/ablated.py",
    "audit.py": "questions/tables/audit.py",
    "captions.py": "paper/pictures/captions.py report/captions.py",
    "check.py": "cli/check.py prompts/check.py",
    "claim.py": "cli/claim.py paper/claims/claim.py",
    "direct_edges.py": "engine/direct_edges.py questions/paths/direct_edges.py",
    "features.py": "bench/planted/features.py statistics/features.py",
    "importance.py": "questions/importance.py questions/tables/importance.py",
    "norms.py": "engine/delta/rules/norms.py model/norms.py",
    "operators.py": "ablation/operators.py questions/circuit/operators.py",
    "options.py": "cli/options.py prompts/options.py",
    "panels.py": "paper/experiments/overview/panels.py report/panels.py",
    "prompts.py": "bench/planted/prompts.py paper/experiments/name_movers/prompts.py",
    "roles.py": "circuits/readers/roles.py paper/experiments/name_movers/roles.py",
    "runs.py": "questions/circuit/runs.py results/runs.py",
    "settings.py": "questions/settings.py run/planning/settings.py",
    "table.py": "engine/delta/rules/table.py questions/covering/table.py",
    "tables.py": "bench/tables.py circuits/writers/tables.py",
    "vocabulary.py": "model/vocabulary.py prompts/vocabulary.py",
    "weights.py": "engine/delta/rules/weights.py model/weights.py",
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
    twice, listed = defined_twice(names), patterns(SAME_MEANING, NOT_RENAMED_YET)
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
