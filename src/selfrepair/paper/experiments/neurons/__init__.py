"""Erasure neurons: Figures 7, 8 and 12 to 15, section 4.2.2."""

from selfrepair.paper.experiments.neurons.figures import by_layer as by_layer
from selfrepair.paper.experiments.neurons.figures import cumulative_change as cumulative_change
from selfrepair.paper.experiments.neurons.figures import rank_curves as rank_curves
from selfrepair.paper.experiments.neurons.figures import top_neurons as top_neurons
from selfrepair.paper.experiments.neurons.study import NeuronStudy as NeuronStudy
from selfrepair.paper.experiments.neurons.study import choose_heads as choose_heads
from selfrepair.paper.experiments.neurons.study import study_neurons as study_neurons
