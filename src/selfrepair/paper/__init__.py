"""Everything the paper measured, on any supported model: one module per experiment, each a plain function.

>>> from selfrepair import load, load_run
>>> from selfrepair.paper import make, overview, page
>>> run = load_run("runs/gpt2")
>>> overview.repair_by_depth([run]).numbers
>>> page.write(make.make(make.study_of(load("gpt2"), run)), "papers/gpt2")
"""

from selfrepair.paper import doses as doses
from selfrepair.paper import ioi as ioi
from selfrepair.paper import iterative as iterative
from selfrepair.paper import layernorm as layernorm
from selfrepair.paper import make as make
from selfrepair.paper import neurons as neurons
from selfrepair.paper import noise as noise
from selfrepair.paper import normparts as normparts
from selfrepair.paper import overview as overview
from selfrepair.paper import page as page
from selfrepair.paper import published as published
from selfrepair.paper.corpus import Corpus as Corpus
from selfrepair.paper.exhibit import Exhibit as Exhibit
from selfrepair.paper.numbers import Number as Number
