"""Who covered for an ablated head? Exact, per-token ledgers of self-repair in language models.

>>> from selfrepair import load, measure, windows
>>> model = load("default")
>>> text = windows(model.tokenizer, "builtin", tokens=640)
>>> run = measure(model, text, ablation="resample")
>>> run.heads, run.table(), run.plot_overview()
"""

from selfrepair.ablation.operators import Mean as Mean
from selfrepair.ablation.operators import Operator as Operator
from selfrepair.ablation.operators import PositionMean as PositionMean
from selfrepair.ablation.operators import Resample as Resample
from selfrepair.ablation.operators import Zero as Zero
from selfrepair.engine import Engine as Engine
from selfrepair.engine import ReferenceEngine as ReferenceEngine
from selfrepair.engine import ReplayEngine as ReplayEngine
from selfrepair.engine.proofs import prove as prove
from selfrepair.errors import RefusedModel as RefusedModel
from selfrepair.errors import SelfRepairError as SelfRepairError
from selfrepair.model.language_model import LanguageModel as LanguageModel
from selfrepair.model.load import load as load
from selfrepair.report.page import view as view
from selfrepair.report.page import write_page as write_report
from selfrepair.results.folder import load as load_run
from selfrepair.results.runs import Run as Run
from selfrepair.run.combine import combine as combine
from selfrepair.run.comparison import Comparison as Comparison
from selfrepair.run.comparison import compare as compare
from selfrepair.run.measure import ChecksFail as ChecksFail
from selfrepair.run.measure import LedgerDoesNotClose as LedgerDoesNotClose
from selfrepair.run.measure import NumbersAreInexact as NumbersAreInexact
from selfrepair.run.measure import measure as measure
from selfrepair.run.measure import resume as resume
from selfrepair.statistics.filters import Filter as Filter
from selfrepair.text import Windows as Windows
from selfrepair.text import windows as windows

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
