"""Erasure neurons: Figures 7, 8 and 12 to 15, section 4.2.2."""

from selfrepair.paper.experiments.neurons.study import NeuronStudy as NeuronStudy
from selfrepair.paper.experiments.neurons.study import by_layer as by_layer
from selfrepair.paper.experiments.neurons.study import choose_heads as choose_heads
from selfrepair.paper.experiments.neurons.study import cumulative_change as cumulative_change
from selfrepair.paper.experiments.neurons.study import rank_curves as rank_curves
from selfrepair.paper.experiments.neurons.study import study_neurons as study_neurons
from selfrepair.paper.experiments.neurons.study import top_neurons as top_neurons
