"""The default text: the Python standard library's own prose and code, on every machine and without a network.

Three kinds of documents; a module is one document, either its docstrings or its source:

* `builtin:topics/NAME`: a topic of the language reference (`pydoc_data.topics`);
* `builtin:docstrings/PATH.py`: the docstrings of a well-documented module, in the order of the source;
* `builtin:source/PATH.py`: the source of a module with few docstrings.

Texts are taken as they are: no reST is stripped. Modules are read as text and never imported. Tests,
character tables and other data are left out. The order is a fixed shuffle (by SHA-256 of the name), three
documents of prose to one of code while there are both. The text depends on the Python version.
"""

import ast
import hashlib
import importlib
import sys
import sysconfig
import tokenize
import warnings
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from selfrepair.text.document import Document

_LEFT_OUT = {"test", "tests", "idle_test", "encodings", "lib2to3", "pydoc_data", "site-packages", "_vendor"}
_PROSE = 3000  # characters of docstrings from which a module counts as prose
_SHORTEST = 1500  # characters; shorter sources are mostly imports
_REPEATED = 0.1  # share of a topic that may stand in shorter topics too


def builtin_documents() -> Iterator[Document]:
    """The built-in documents, lazily: a module is read when its turn comes."""
    topics = _topics()
    names = [(f"topics/{name}", None) for name in topics] + [(f"source/{name}", path) for name, path in _modules()]
    names.sort(key=lambda entry: hashlib.sha256(entry[0].encode()).digest())
    prose: deque[Document] = deque()
    code: deque[Document] = deque()
    given = 0
    for name, path in names:
        if path is None:
            prose.append(Document(f"builtin:{name}", topics[name.removeprefix("topics/")]))
        elif (document := _module_document(name, path)) is not None:
            (code if document.name.startswith("builtin:source/") else prose).append(document)
        while queue := code if given % 4 == 3 else prose:
            yield queue.popleft()
            given += 1
    while prose or code:
        yield (code if code and (given % 4 == 3 or not prose) else prose).popleft()
        given += 1


def _topics() -> dict[str, str]:
    """The topics of the language reference, without those that mostly repeat shorter ones."""
    try:
        # some distributions leave this module out
        topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    except ImportError:
        return {}
    seen: set[str] = set()
    kept: dict[str, str] = {}
    for name, text in sorted(topics.items(), key=lambda topic: (len(topic[1]), topic[0])):
        paragraphs = {paragraph.strip() for paragraph in text.split("\n\n")}
        if sum(map(len, paragraphs & seen)) <= _REPEATED * len(text):
            kept[name] = text
        seen |= paragraphs
    return kept


def _modules() -> Iterator[tuple[str, Path]]:
    """Names (`package/module.py`) and paths of the standard library's sources."""
    root = Path(sysconfig.get_path("stdlib"))
    for top in sorted(sys.stdlib_module_names - _LEFT_OUT):
        paths = [root / f"{top}.py"] if (root / f"{top}.py").is_file() else sorted((root / top).rglob("*.py"))
        for path in paths:
            parts = path.relative_to(root).parts
            if not _LEFT_OUT.intersection(parts):
                yield "/".join(parts), path


def _module_document(name: str, path: Path) -> Document | None:
    """A module as prose when its docstrings are long, else as code; None for short, odd or tabular ones."""
    try:
        with tokenize.open(path) as file:
            source = file.read()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (OSError, SyntaxError, ValueError):
        return None
    docstrings = "\n\n\n".join(_docstrings(tree, ""))
    if len(docstrings) >= _PROSE:
        return Document(f"builtin:docstrings/{name.removeprefix('source/')}", docstrings + "\n")
    if len(source) < _SHORTEST or _is_table(source):
        return None
    return Document(f"builtin:{name}", source)


def _docstrings(node: ast.AST, prefix: str) -> Iterator[str]:
    """Docstrings of a module and of all that is defined in it, each below the name of what it describes."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        text = ast.get_docstring(node)
        name = "" if isinstance(node, ast.Module) else f"{prefix}{node.name}"
        if text:
            yield f"{name}\n{text}" if name else text
        prefix = f"{name}." if name else ""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            yield from _docstrings(child, prefix)


def _is_table(source: str) -> bool:
    """Whether a source is mostly data: few letters or many digits."""
    letters = sum(map(str.isalpha, source)) + sum(map(str.isspace, source))
    digits = sum(map(str.isdigit, source))
    return letters < 0.7 * len(source) or digits > 0.07 * len(source)
