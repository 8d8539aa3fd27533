"""Erasure neurons: Figures 7, 8 and 12 to 15, section 4.2.2."""

from collections.abc import Iterator

from selfrepair.paper.exhibit import Exhibit
from selfrepair.paper.experiments.neurons.neuron_figures import by_layer as by_layer
from selfrepair.paper.experiments.neurons.neuron_figures import cumulative_change as cumulative_change
from selfrepair.paper.experiments.neurons.neuron_figures import rank_curves as rank_curves
from selfrepair.paper.experiments.neurons.neuron_figures import top_neurons as top_neurons
from selfrepair.paper.experiments.neurons.neuron_study import NeuronStudy as NeuronStudy
from selfrepair.paper.experiments.neurons.neuron_study import choose_repaired as choose_repaired
from selfrepair.paper.experiments.neurons.neuron_study import study_neurons as study_neurons
from selfrepair.paper.study import Study, experiment


@experiment("Neurons of MLPs")
def exhibits(study: Study) -> Iterator[Exhibit]:
    """All its figures."""
    corpus = study.corpus()
    neuron_study = study_neurons(corpus, choose_repaired(study.run, corpus))
    yield top_neurons(neuron_study)
    yield rank_curves(neuron_study)
    yield cumulative_change(neuron_study)
    yield by_layer(neuron_study)
