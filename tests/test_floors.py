"""The floors of docs/architecture.md hold: imports point down, in no circle, and nothing private leaves its module."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).parents[1] / "src"
FLOORS = (SOURCE.parent / "docs/architecture.md").read_text("utf-8").partition("## Floors")[2]


class Import(NamedTuple):
    importer: str
    line: int
    function: str  # `Run.table`, or nothing at a module's own level
    module: str
    name: str


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


PATHS = {module_name(path): path for path in (SOURCE / "selfrepair").rglob("*.py")}


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(PATHS[module].read_text("utf-8"))


def imports_of(module: str, top: ast.AST) -> Iterator[Import]:
    """Every import of the package in a module: in functions, for types alone, and by `import_module("...")`."""

    def walk(node: ast.AST, within: str) -> Iterator[Import]:
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}:{node.lineno} imports relatively"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                target = full if full in PATHS else str(node.module)
                yield Import(module, node.lineno, within, target, alias.name)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, node.lineno, within, alias.name, "")
        elif isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func):
            for argument in node.args:
                if isinstance(argument, ast.Constant):
                    yield Import(module, node.lineno, within, str(argument.value), "")
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            within = f"{within}.{node.name}".lstrip(".")
        for child in ast.iter_child_nodes(node):
            yield from walk(child, within)

    yield from walk(top, "")


@cache
def imports() -> tuple[Import, ...]:
    """All imports of the package by its own modules."""
    every = [one for module in PATHS for one in imports_of(module, tree(module))]
    return tuple(one for one in every if one.module.partition(".")[0] == "selfrepair")


def floors(text: str = FLOORS) -> list[tuple[str, int, int]]:
    """(room, floor, floor within its folder), from the first block; rooms are modules or packages."""
    rooms, folder, floor, inner = [], "", -1, 0
    for line in text.split("```")[1].strip("\n").splitlines():
        names = re.match(r"( {0,2})((?:[\w/.]+(?:, )?)+)(?:  |$)", line)
        if names is None:
            continue  # a description goes on
        indented, listed = bool(names[1]), names[2].split(", ")
        floor, inner = (floor, inner + 1) if indented else (floor + 1, 0)
        for name in listed:
            room = name.rstrip("/").removesuffix(".py").replace("/", ".").removesuffix("__init__")
            rooms.append((".".join(filter(None, ["selfrepair", folder if indented else "", room])), floor, inner))
        if not indented:
            folder = listed[0].rstrip("/")
    return rooms


def floor_of(module: str, rooms: list[tuple[str, int, int]]) -> tuple[int, int]:
    """Where a module stands; larger is further down."""
    if module == "selfrepair":
        return next((floor, inner) for room, floor, inner in rooms if room == module)
    inside = [one for one in rooms if one[0] != "selfrepair" and f"{module}.".startswith(f"{one[0]}.")]
    assert inside, f"{module} stands on no floor of docs/architecture.md"
    _, floor, inner = max(inside, key=lambda one: len(one[0]))
    return floor, inner


def doors() -> set[str]:
    """Functions that may load what stands above them."""
    return set(re.findall(r"`([\w.]+)`", FLOORS.partition("Doors, ")[2].partition("\n\n")[0]))


def is_door(one: Import) -> bool:
    return one.importer in ("selfrepair.results.runs", "selfrepair.questions.circuit.audit") and one.function in doors()


def pointing_up(every: tuple[Import, ...], rooms: list[tuple[str, int, int]]) -> list[Import]:
    return [one for one in every if floor_of(one.module, rooms) < floor_of(one.importer, rooms)]


def test_imports_point_down():
    assert not [one for one in pointing_up(imports(), floors()) if not is_door(one)]


def test_modules_import_each_other_in_no_circle():
    graph: dict[str, set[str]] = {}
    for one in imports():
        if not is_door(one) and one.module != one.importer:
            graph.setdefault(one.importer, set()).add(one.module)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        raise AssertionError(f"a circle of imports: {' <- '.join(circle.args[1])}") from None


def test_every_room_is_there_and_every_door_is_used():
    assert not [room for room, _, _ in floors() if room not in PATHS]
    assert doors() == {one.function for one in imports() if is_door(one)}


def test_the_ground_floor_knows_no_model():
    rooms = floors()
    ground = [room for room, floor, _ in rooms if floor == max(floor for _, floor, _ in rooms)]
    assert "selfrepair.errors" in ground and "selfrepair.progress" in ground
    known = {one.module.split(".")[0] for room in ground for one in imports_of(room, tree(room))}
    assert not known & {"torch", "transformers", "numpy", "safetensors"}
    assert {one.module for one in imports() if one.importer in ground} <= set(ground)


def private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def names_made_in(module: str) -> set[str]:
    """Names that a module gives to something: definitions, assignments, fields."""
    made = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            made.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            made.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            made.add(node.attr)
    return made


def private_uses(module: str, made: dict[str, set[str]]) -> list[str]:
    """Private names of other modules that a module imports, or reaches for as `other._name`."""
    elsewhere = {name for other, names in made.items() if other != module for name in names if private(name)}
    uses = [f"{one.line}: {one.module}.{one.name}" for one in imports() if one.importer == module and private(one.name)]
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Attribute) and node.attr in elsewhere - made[module]:
            uses.append(f"{node.lineno}: {ast.unparse(node)}")
    return uses


def test_nothing_private_leaves_its_module():
    made = {module: names_made_in(module) for module in PATHS}
    assert {module: uses for module in PATHS if (uses := private_uses(module, made))} == {}


def test_nobody_inside_uses_the_public_surface():
    """It stands on top: a module that imports from it would load half of the package."""
    assert not [one for one in imports() if one.module == "selfrepair"]


def test_what_points_up_is_found_wherever_it_stands():
    """In a function, for types alone, as a module or by a name, and between rooms of one folder."""
    rooms = floors()
    up = [
        "def f():\n    from selfrepair.report.run_tables import head_table",
        "if TYPE_CHECKING:\n    from selfrepair.run.measure import measure",
        "import selfrepair.cli.app",
        "from selfrepair import paper",
        "import_module('selfrepair.report.model_card')",
    ]
    for code in up:
        assert pointing_up(tuple(imports_of("selfrepair.model.taps", ast.parse(code))), rooms), code
    inner = "from selfrepair.run.closeups import attach"
    assert pointing_up(tuple(imports_of("selfrepair.run.storage.log", ast.parse(inner))), rooms)
    down = "from selfrepair.text import Windows\nfrom selfrepair.errors import without_controls"
    assert not pointing_up(tuple(imports_of("selfrepair.model.taps", ast.parse(down))), rooms)
