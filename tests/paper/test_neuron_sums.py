"""What is kept of neuron arrays: uniform samples, the same for any batches, and counts by hand."""

import numpy as np
import pytest

from selfrepair.paper.experiments.neurons import neuron_study, neuron_sums
from selfrepair.paper.experiments.neurons.neuron_sums import NeuronSums
from selfrepair.paper.inputs.corpus import Corpus
from selfrepair.paper.inputs.token_sample import TokenSample
from selfrepair.statistics.keep import uniform_sample
from support import corpus, language_model


def where_of(window, position):
    return {"window": np.array(window), "position": np.array(position), "document": np.array(window)}


def test_a_sample_is_that_of_the_sweep_whatever_parts_tokens_come_in():
    scored = np.random.default_rng(0).random((40, 30)) < 0.7
    wanted = uniform_sample(scored, 50, 3)
    window, position = np.nonzero(scored)
    for order in (np.arange(len(window)), np.random.default_rng(1).permutation(len(window))):
        for size in (1, 7, len(window)):
            sample = TokenSample(50, 3)
            for start in range(0, len(order), size):
                part = order[start : start + size]
                sample.add({"window": window[part], "position": position[part], "value": 2.0 * position[part]})
            kept = sample.columns()
            assert np.stack([kept["window"], kept["position"]], 1).tolist() == wanted.tolist()
            assert kept["value"].tolist() == (2.0 * wanted[:, 1]).tolist()


def test_samples_of_a_study_are_uniform_and_the_same_for_any_batches(monkeypatch):
    monkeypatch.setattr(neuron_sums, "SHOWN_TOKENS", 9)
    monkeypatch.setattr(neuron_sums, "SORTED_TOKENS", 6)
    text = corpus(lengths=(9,) * 12, documents=range(12))
    results = []
    for size in (1, 5, 12):
        body = Corpus(language_model("llama"), text, seed=4)
        body.__dict__["size"] = size
        results.append(neuron_study.study_neurons(body, [(1, 0)], fraction=0.5).sums[(1, 0), 2, neuron_study.EFFECT])
    every = Corpus(language_model("llama"), text, seed=4)
    effect = every.direct_effects([neuron_study.Head(1, 0)])[0].reshape(12, 7)
    passing = np.zeros(text.scored(1).shape, bool)
    passing[:, 1:] = effect >= np.sort(effect.ravel())[::-1][int(0.5 * effect.size) - 1]
    for sums in results:
        assert sums.points[["window", "position"]].to_numpy().tolist() == uniform_sample(passing, 9, 4).tolist()
        np.testing.assert_allclose(sums.medians(), results[0].medians(), atol=1e-7)
    ranked = results[0].ranked.columns()
    assert np.stack([ranked["window"], ranked["position"]], 1).tolist() == uniform_sample(passing, 6, 4).tolist()


def test_negligible_neurons_are_those_beyond_85_percent_of_all_change():
    sums = NeuronSums(5, (0.5,), 4)
    change = np.array([[6.0, -3, 0.5, 0.3, 0.2], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0], [0, -2, 0, 0, 0]])
    sums.add(np.zeros((4, 5)), change, np.ones(4), np.ones(4), where_of([0, 1, 2, 3], [1, 1, 1, 1]))
    assert sums.tally.share("negligible").value == pytest.approx(np.mean([3 / 5, 0, 1, 4 / 5]))
    assert sums.curve()[-1] == pytest.approx(1)  # over tokens on which something changes


def test_most_frequent_neurons_across_prompts_and_within_them():
    """Twelve neurons, so that each token names the two that are not among its ten."""
    sums = NeuronSums(12, (0.5,), 3)
    left_out = [(0, 1), (0, 2), (0, 3), (4, 5), (4, 6), (7, 8)]
    change = np.ones((6, 12)) + np.arange(12) / 100
    for token, pair in enumerate(left_out):
        change[token, list(pair)] = -1
    where = where_of([0, 0, 0, 1, 1, 2], [1, 2, 3, 1, 2, 1])
    sums.add(np.zeros((6, 12)), change, np.ones(6), np.ones(6), where)
    numbers = {number.name: number.value for number in sums.numbers("x")}
    own = "x: a prompt's most frequent neuron in a token's top ten, share of tokens"
    assert numbers["x: most frequent neuron in a token's top ten, share of tokens"] == 1  # neurons 9 to 11
    assert numbers[own] == 1
    tops = [set(range(12)) - set(pair) for pair in left_out]
    wanted = []
    for prompt in ([0, 1, 2], [3, 4]):
        for token in prompt:
            counts = [sum(n in tops[other] for other in prompt if other != token) for n in range(12)]
            best = [n for n in range(12) if counts[n] == max(counts)]
            wanted.append(np.mean([n in tops[token] for n in best]))
    assert numbers[f"{own}, chosen by the prompt's other tokens"] == pytest.approx(np.mean(wanted))
    assert np.mean(wanted) < 1


def test_a_neuron_of_one_prompt_is_frequent_within_it_and_not_across():
    sums, rng = NeuronSums(400, (0.5,), 10), np.random.default_rng(0)
    change = rng.normal(size=(40, 400))
    window = np.repeat(np.arange(10), 4)
    change[np.arange(40), 3 * window] = 50  # each prompt has a neuron of its own
    sums.add(np.zeros((40, 400)), change, np.ones(40), np.ones(40), where_of(window, np.tile(np.arange(4), 10)))
    numbers = {number.name: number.value for number in sums.numbers("x")}
    own = "x: a prompt's most frequent neuron in a token's top ten, share of tokens"
    assert numbers["x: most frequent neuron in a token's top ten, share of tokens"] < 0.3
    assert numbers[own] == 1 and numbers[f"{own}, chosen by the prompt's other tokens"] > 0.9
