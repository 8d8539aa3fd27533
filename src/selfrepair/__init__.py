"""Who covered for an ablated head? Exact, per-token ledgers of self-repair in language models.

>>> from selfrepair import load, measure, windows
>>> model = load("default")
>>> text = windows(model.tokenizer, "builtin", tokens=640)
>>> run = measure(model, text, ablation="resample")
>>> run.heads, run.table(), run.plot_overview()

This is the whole public surface, with the subpackage `selfrepair.paper`; docs/api.md lists it. Names are imported when
they are first used: importing the package, and `selfrepair --help`, load no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selfrepair.ablation.direction import Direction as Direction
    from selfrepair.ablation.edges import Edge as Edge
    from selfrepair.ablation.interventions import Intervention as Intervention
    from selfrepair.ablation.interventions import each as each
    from selfrepair.ablation.interventions import freezing as freezing
    from selfrepair.ablation.interventions import pairs as pairs
    from selfrepair.ablation.interventions import ports_of as ports_of
    from selfrepair.ablation.interventions import together as together
    from selfrepair.ablation.names import parse_names as parse_names
    from selfrepair.ablation.names import resolve as resolve
    from selfrepair.ablation.operators import Mean as Mean
    from selfrepair.ablation.operators import Operator as Operator
    from selfrepair.ablation.operators import PositionMean as PositionMean
    from selfrepair.ablation.operators import Resample as Resample
    from selfrepair.ablation.operators import Source as Source
    from selfrepair.ablation.operators import Unchanged as Unchanged
    from selfrepair.ablation.operators import Zero as Zero
    from selfrepair.ablation.sites import At as At
    from selfrepair.ablation.sites import AtSpan as AtSpan
    from selfrepair.ablation.sites import Attention as Attention
    from selfrepair.ablation.sites import Head as Head
    from selfrepair.ablation.sites import Mixer as Mixer
    from selfrepair.ablation.sites import Mlp as Mlp
    from selfrepair.ablation.sites import MlpPart as MlpPart
    from selfrepair.ablation.sites import Neuron as Neuron
    from selfrepair.ablation.sites import Site as Site
    from selfrepair.ablation.spellings import End as End
    from selfrepair.circuits.circuit import Circuit as Circuit
    from selfrepair.effects.ledger import Ledger as Ledger
    from selfrepair.effects.readouts import LogitDifference as LogitDifference
    from selfrepair.effects.readouts import NextToken as NextToken
    from selfrepair.effects.readouts import Reading as Reading
    from selfrepair.effects.readouts import Readout as Readout
    from selfrepair.engine import DeltaEngine as DeltaEngine
    from selfrepair.engine import Engine as Engine
    from selfrepair.engine import ReferenceEngine as ReferenceEngine
    from selfrepair.engine import ReplayEngine as ReplayEngine
    from selfrepair.engine.ablation_proofs import prove as prove
    from selfrepair.engine.clean import CleanRun as CleanRun
    from selfrepair.engine.clean import clean_run as clean_run
    from selfrepair.engine.clean import port_outputs as port_outputs
    from selfrepair.errors import Proof as Proof
    from selfrepair.errors import RefusedModel as RefusedModel
    from selfrepair.errors import SelfRepairError as SelfRepairError
    from selfrepair.model.language_model import LanguageModel as LanguageModel
    from selfrepair.model.load import load as load
    from selfrepair.model.ports import Port as Port
    from selfrepair.prompts import Prompt as Prompt
    from selfrepair.prompts import Prompts as Prompts
    from selfrepair.prompts import PromptsDropped as PromptsDropped
    from selfrepair.questions.asked import ablate as ablate
    from selfrepair.questions.asked import audit as audit
    from selfrepair.questions.asked import card as card
    from selfrepair.questions.asked import graph as graph
    from selfrepair.questions.asked import interact as interact
    from selfrepair.questions.asked import recruit as recruit
    from selfrepair.questions.asked import who as who
    from selfrepair.questions.asked import write_audit as write_audit
    from selfrepair.report.page import view as view
    from selfrepair.report.page import write_page as write_report
    from selfrepair.results.run_folder import load_run as load_run
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
    from selfrepair.text.cutting import windows as windows

_MODULES = {
    "selfrepair.ablation.direction": ("Direction",),
    "selfrepair.ablation.edges": ("Edge",),
    "selfrepair.ablation.interventions": ("Intervention", "each", "freezing", "pairs", "ports_of", "together"),
    "selfrepair.ablation.names": ("parse_names", "resolve"),
    "selfrepair.ablation.operators": ("Mean", "Operator", "PositionMean", "Resample", "Source", "Unchanged", "Zero"),
    "selfrepair.ablation.sites": ("At", "AtSpan", "Attention", "Head", "Mixer", "Mlp", "MlpPart", "Neuron", "Site"),
    "selfrepair.ablation.spellings": ("End",),
    "selfrepair.questions.asked": ("ablate", "audit", "card", "graph", "interact", "recruit", "who", "write_audit"),
    "selfrepair.circuits.circuit": ("Circuit",),
    "selfrepair.effects.ledger": ("Ledger",),
    "selfrepair.effects.readouts": ("LogitDifference", "NextToken", "Reading", "Readout"),
    "selfrepair.engine": ("DeltaEngine", "Engine", "ReferenceEngine", "ReplayEngine"),
    "selfrepair.engine.ablation_proofs": ("prove",),
    "selfrepair.engine.clean": ("CleanRun", "clean_run", "port_outputs"),
    "selfrepair.errors": ("Proof", "RefusedModel", "SelfRepairError"),
    "selfrepair.model.language_model": ("LanguageModel",),
    "selfrepair.model.load": ("load",),
    "selfrepair.model.ports": ("Port",),
    "selfrepair.prompts": ("Prompt", "Prompts", "PromptsDropped"),
    "selfrepair.report.page": ("view",),
    "selfrepair.results.runs": ("Run",),
    "selfrepair.run.gathering.compare_runs": ("Comparison", "compare"),
    "selfrepair.run.gathering.merge_folders": ("combine",),
    "selfrepair.run.measure": ("ChecksFail", "LedgerDoesNotClose", "NumbersAreInexact", "measure", "resume"),
    "selfrepair.statistics.filters": ("Filter",),
    "selfrepair.text": ("Windows",),
    "selfrepair.text.cutting": ("windows",),
}
_HOMES = {name: (module, name) for module, names in _MODULES.items() for name in names}
_HOMES |= {
    "load_run": ("selfrepair.results.run_folder", "load_run"),
    "write_report": ("selfrepair.report.page", "write_page"),
}

__all__ = [
    "At",
    "AtSpan",
    "Attention",
    "ChecksFail",
    "Circuit",
    "CleanRun",
    "Comparison",
    "DeltaEngine",
    "Direction",
    "Edge",
    "End",
    "Engine",
    "Filter",
    "Head",
    "Intervention",
    "LanguageModel",
    "Ledger",
    "LedgerDoesNotClose",
    "LogitDifference",
    "Mean",
    "Mixer",
    "Mlp",
    "MlpPart",
    "Neuron",
    "NextToken",
    "NumbersAreInexact",
    "Operator",
    "Port",
    "PositionMean",
    "Prompt",
    "Prompts",
    "PromptsDropped",
    "Proof",
    "Reading",
    "Readout",
    "ReferenceEngine",
    "RefusedModel",
    "ReplayEngine",
    "Resample",
    "Run",
    "SelfRepairError",
    "Site",
    "Source",
    "Unchanged",
    "Windows",
    "Zero",
    "ablate",
    "audit",
    "card",
    "clean_run",
    "combine",
    "compare",
    "each",
    "freezing",
    "graph",
    "interact",
    "load",
    "load_run",
    "measure",
    "pairs",
    "parse_names",
    "port_outputs",
    "ports_of",
    "prove",
    "recruit",
    "resolve",
    "resume",
    "together",
    "view",
    "who",
    "windows",
    "write_audit",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """A public name, from the module that defines it."""
    if name not in _HOMES:
        raise AttributeError(f"module 'selfrepair' has no attribute '{name}'")
    module, own_name = _HOMES[name]
    globals()[name] = value = getattr(import_module(module), own_name)
    return value


def __dir__() -> list[str]:
    """Public names, imported or not."""
    return sorted({*globals(), *__all__})
