"""Everything the paper measured, on any supported model: one module per experiment, each a plain function.

>>> from selfrepair import load_run
>>> from selfrepair.paper import draw, overview
>>> run = load_run("runs/resample")
>>> exhibit = overview.repair_by_depth([run], filter="all")
>>> figure = draw(exhibit.picture)  # matplotlib's
>>> exhibit.figure, len(figure.axes) == len(exhibit.picture.panels)
('Figure 1', True)
"""

from selfrepair.paper import make as make
from selfrepair.paper import page as page
from selfrepair.paper.exhibit import Exhibit as Exhibit
from selfrepair.paper.experiments import name_movers as name_movers
from selfrepair.paper.experiments import neurons as neurons
from selfrepair.paper.experiments import noise as noise
from selfrepair.paper.experiments import norm as norm
from selfrepair.paper.experiments import overview as overview
from selfrepair.paper.experiments import published as published
from selfrepair.paper.experiments import self_gain as self_gain
from selfrepair.paper.inputs.corpus import Corpus as Corpus
from selfrepair.paper.numbers.over_documents import Number as Number
from selfrepair.pictures.with_matplotlib import draw as draw

__all__ = [
    "Corpus",
    "Exhibit",
    "Number",
    "draw",
    "make",
    "name_movers",
    "neurons",
    "noise",
    "norm",
    "overview",
    "page",
    "published",
    "self_gain",
]
