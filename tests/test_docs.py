"""The documents against the code: links, cited sections, commands, imports, and the README's command for CI."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest
import typer.main

import selfrepair
from selfrepair import paper
from selfrepair.cli.app import app

ROOT = Path(__file__).parents[1]
PUBLIC = {"selfrepair": selfrepair, "selfrepair.paper": paper}
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "src").rglob("README.md"),
        *ROOT.glob(".github/**/*.md"),
    ]
)
CODE = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")])
EVERY_PATH = [
    str(path.relative_to(ROOT))
    for top in ("src", "tests", "docs", "benchmarks", "tools", "examples")
    for path in [ROOT / top, *(ROOT / top).rglob("*")]
] + [path.name for path in ROOT.iterdir()]


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    """Every call of `selfrepair` in the page's shell blocks; `;`, `&&`, comments and continued lines taken apart."""
    lines = "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    parts = [part.strip() for line in lines for part in re.split(r";|&&", line.split(" #")[0])]
    return [part for part in parts if part.startswith("selfrepair ")]


def by_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_links_lead_somewhere(page):
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert not dead


def test_cited_sections_exist():
    """Docstrings cite `docs/methods.md 2.3`; no document is cited that the repository does not have."""
    sections = set(re.findall(r"^#+ (\d+(?:\.\d+)?)\.? ", (ROOT / "docs/methods.md").read_text("utf-8"), re.MULTILINE))
    cited, wrong = 0, []
    for path in [*CODE, *PAGES]:
        text = path.read_text("utf-8")
        for first, others in re.findall(r"docs/methods\.md`? (\d+(?:\.\d+)?)((?:, \d+\.\d+)*)", text):
            numbers = [first, *re.findall(r"\d+\.\d+", others)]
            cited += len(numbers)
            wrong += [f"{by_name(path)}: {number}" for number in numbers if number not in sections]
        if path.suffix == ".py" and path != Path(__file__):
            wrong += [
                f"{by_name(path)}: {name}" for name in re.findall(r"docs/\w+\.md", text) if not (ROOT / name).exists()
            ]
            wrong += [f"{by_name(path)}: {name}" for name in re.findall(r"paper-methods|science\.md", text)]
    assert cited > 20 and not wrong


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=by_name)
def test_commands_are_understood(page):
    """Verbs, options and choices exist; nothing is run."""
    verbs = typer.main.get_command(app).commands
    for command in commands(page):
        _, verb, *arguments = shlex.split(re.sub(r"\[[^]]*…?\]", "", command))
        if verb.startswith("-"):
            continue
        verbs[verb].make_context(verb, arguments)  # raises what the command line would say


def shown_commands() -> list[str]:
    """Calls with a prompt on the command line, in pages and in `--help`."""
    helps = [" ".join((command.help or "").split()) for command in typer.main.get_command(app).commands.values()]
    epilog = str(typer.main.get_command(app).epilog)
    written = [re.findall(r"selfrepair \w+ [^`]*--prompt [^`]*", text) for text in (*helps, epilog)]
    calls = [command for page in PAGES for command in commands(page)]
    return [call for call in (*calls, *(call for some in written for call in some)) if "--prompt " in call]


def test_a_prompt_by_itself_is_ablated_with_what_it_allows():
    """It has no other prompt to resample from: without a twin, the ablation has to be named."""
    calls = [call for call in shown_commands() if not call.startswith("selfrepair prompts")]
    assert len(calls) >= 3
    assert [call for call in calls if "--corrupt" not in call and not re.search("--ablation (zero|mean)", call)] == []


def imported_from_inside(code: str) -> list[str]:
    """What code imports of the package that is not public: neither of `selfrepair` nor of `selfrepair.paper`."""
    inside = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "selfrepair":
            public = [
                *getattr(PUBLIC.get(node.module), "__all__", ()),
                *({"selfrepair": ["paper"]}.get(node.module, [])),
            ]
            inside += [f"{node.module}.{alias.name}" for alias in node.names if alias.name not in public]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            inside += [name for name in names if name.partition(".")[0] == "selfrepair" and name not in PUBLIC]
        elif isinstance(node, ast.Attribute) and (reached := ast.unparse(node)).startswith("selfrepair."):
            public = [*selfrepair.__all__, "paper"]
            inside += [] if reached.split(".")[1] in public else [reached]
    return inside


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=by_name)
def test_examples_import_what_is_public_and_nothing_else(page):
    assert [name for block in blocks(page, "python") for name in imported_from_inside(block)] == []


@pytest.mark.parametrize("script", sorted((ROOT / "examples").glob("*.py")), ids=by_name)
def test_example_scripts_import_what_is_public_and_nothing_else(script):
    assert imported_from_inside(script.read_text("utf-8")) == []


@pytest.mark.parametrize(
    "code",
    [
        "from selfrepair.results.windows_file import windows_of",
        "from selfrepair import engine",
        "import selfrepair.model",
        "import selfrepair\nselfrepair.model.load",
        "from selfrepair.paper import inputs",
    ],
)
def test_imports_from_inside_are_found(code):
    assert imported_from_inside(code)


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_files_that_are_named_exist(page):
    """`folder/file.py`, `file.py`, `folder/`: somewhere in the repository there is a file or folder that ends so."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    named = set(re.findall(r"`((?:[\w.-]+/)*[\w-]+\.(?:py|js|toml))`", text))
    named |= set(re.findall(r"`((?:src|tests|docs|benchmarks)(?:/\w+)*)/`", text))
    assert not [name for name in named if not any(f"/{path}/".endswith(f"/{name}/") for path in EVERY_PATH)]


def test_names_in_the_guides_to_changes_exist():
    """CONTRIBUTING tells which names to search for; a guide that is out of date fails here."""
    guides = (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("## How to add")[2]
    code = "\n".join(path.read_text("utf-8") for path in [*CODE, *(ROOT / "src").rglob("*.js")])
    names = set(re.findall(r"`([A-Z_][A-Za-z_]+|[a-z]+(?:_[a-z]+)+)(?:\(\))?`", guides))
    assert len(names) > 20
    assert not [name for name in names if not re.search(rf"\b{name}\b", code)]


def test_ci_finds_the_test_command_in_the_readme():
    """`.ci/run` takes it from between the marker and the end of the block that follows."""
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    start = lines.index("<!-- test command -->")
    end = lines.index("```", start)
    taken = [line for line in lines[start : end + 1] if line and not line.startswith(("```", "<!--"))]
    assert len(taken) == 1 and taken[0].startswith("pip install") and taken[0].endswith("pytest -n auto")


def test_the_citation_has_the_package_version():
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert version and f"\nversion: {version[1]}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
