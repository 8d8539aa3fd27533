"""Who covered for an ablated head? Exact, per-token ledgers of self-repair in language models.

>>> from selfrepair import load, measure, windows
>>> model = load("default")
>>> text = windows(model.tokenizer, "builtin", tokens=640)
>>> run = measure(model, text, ablation="resample")
>>> run.heads, run.table(), run.plot_overview()

Names are imported when they are first used: importing the package, and `selfrepair --help`, load no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selfrepair.ablation.operators import Mean as Mean
    from selfrepair.ablation.operators import Operator as Operator
    from selfrepair.ablation.operators import PositionMean as PositionMean
    from selfrepair.ablation.operators import Resample as Resample
    from selfrepair.ablation.operators import Zero as Zero
    from selfrepair.engine import Engine as Engine
    from selfrepair.engine import ReferenceEngine as ReferenceEngine
    from selfrepair.engine import ReplayEngine as ReplayEngine
    from selfrepair.engine.ablation_proofs import prove as prove
    from selfrepair.errors import RefusedModel as RefusedModel
    from selfrepair.errors import SelfRepairError as SelfRepairError
    from selfrepair.model.language_model import LanguageModel as LanguageModel
    from selfrepair.model.load import load as load
    from selfrepair.report.page import view as view
    from selfrepair.report.page import write_page as write_report
    from selfrepair.results.run_folder import load as load_run
    from selfrepair.results.runs import Run as Run
    from selfrepair.run.gathering.compare_runs import Comparison as Comparison
    from selfrepair.run.gathering.compare_runs import compare as compare
    from selfrepair.run.gathering.merge_folders import combine as combine
    from selfrepair.run.measure import ChecksFail as ChecksFail
    from selfrepair.run.measure import LedgerDoesNotClose as LedgerDoesNotClose
    from selfrepair.run.measure import NumbersAreInexact as NumbersAreInexact
    from selfrepair.run.measure import measure as measure
    from selfrepair.run.measure import resume as resume
    from selfrepair.statistics.filters import Filter as Filter
    from selfrepair.text import Windows as Windows
    from selfrepair.text import windows as windows

_MODULES = {
    "selfrepair.ablation.operators": ("Mean", "Operator", "PositionMean", "Resample", "Zero"),
    "selfrepair.engine": ("Engine", "ReferenceEngine", "ReplayEngine"),
    "selfrepair.engine.ablation_proofs": ("prove",),
    "selfrepair.errors": ("RefusedModel", "SelfRepairError"),
    "selfrepair.model.language_model": ("LanguageModel",),
    "selfrepair.model.load": ("load",),
    "selfrepair.report.page": ("view",),
    "selfrepair.results.runs": ("Run",),
    "selfrepair.run.gathering.merge_folders": ("combine",),
    "selfrepair.run.gathering.compare_runs": ("Comparison", "compare"),
    "selfrepair.run.measure": ("ChecksFail", "LedgerDoesNotClose", "NumbersAreInexact", "measure", "resume"),
    "selfrepair.statistics.filters": ("Filter",),
    "selfrepair.text": ("Windows", "windows"),
}
_HOMES = {name: (module, name) for module, names in _MODULES.items() for name in names}
_HOMES |= {
    "load_run": ("selfrepair.results.run_folder", "load"),
    "write_report": ("selfrepair.report.page", "write_page"),
}

__all__ = [
    "ChecksFail",
    "Comparison",
    "Engine",
    "Filter",
    "LanguageModel",
    "LedgerDoesNotClose",
    "Mean",
    "NumbersAreInexact",
    "Operator",
    "PositionMean",
    "ReferenceEngine",
    "RefusedModel",
    "ReplayEngine",
    "Resample",
    "Run",
    "SelfRepairError",
    "Windows",
    "Zero",
    "combine",
    "compare",
    "load",
    "load_run",
    "measure",
    "prove",
    "resume",
    "view",
    "windows",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """A public name, from the module that defines it."""
    if name not in _HOMES:
        raise AttributeError(f"module 'selfrepair' has no attribute '{name}'")
    module, own_name = _HOMES[name]
    globals()[name] = found = getattr(import_module(module), own_name)
    return found


def __dir__() -> list[str]:
    """Public names, imported or not."""
    return sorted({*globals(), *__all__})
