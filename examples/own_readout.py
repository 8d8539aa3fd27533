"""A logit difference on two prompts, with sets of heads ablated together and MLPs frozen, on an engine called directly.

Run it: `python examples/own_readout.py gpt2`.
"""

from __future__ import annotations

import sys

import torch

from selfrepair import (
    At,
    Attention,
    Head,
    Intervention,
    LanguageModel,
    LogitDifference,
    Mlp,
    ReplayEngine,
    clean_run,
    each,
    freezing,
    load,
    port_outputs,
    ports_of,
    together,
)

PROMPTS = (  # of one length in tokens; each is the other's donor
    "When Mary and John went to the store, John gave a drink to",
    "When Mary and John went to the store, Mary gave a drink to",
)
ANSWERS = (" Mary", " John")


def interventions(model: LanguageModel, heads: list[Head]) -> list[Intervention]:
    """Each head alone, all of them together, the same with every later MLP frozen, and a layer at the last position."""
    movers = together("all of them", heads)
    later = [Mlp(layer) for layer in range(min(heads).layer, model.anatomy.layers)]
    last = Intervention((At(Attention(model.anatomy.layers - 1), (-1,)),), name="last attention, last position")
    return [*each(heads), movers, freezing(movers, later, "all of them, MLPs frozen"), last]


def repair(
    model: LanguageModel, tokens: torch.Tensor, answers: tuple[int, int], heads: list[Head]
) -> dict[str, tuple[float, float]]:
    """Lost direct effect and self-repair of each intervention, in logits of the difference, averaged over prompts.

    Args:
        model: the model.
        tokens: [prompt, position], two prompts of one length.
        answers: the first prompt's right answer, and the second's.
        heads: which to ablate.
    """
    right = tuple((answer,) for answer in answers)
    readout = LogitDifference(positions=(-1, -1), answers=right, against=right[::-1])
    chosen, results = interventions(model, heads), {}
    with model.running():
        clean = clean_run(model, tokens, readout.reading(model.anatomy, tokens), ports_of(chosen))
        donors = port_outputs(model, tokens.flip(0), ports_of(chosen))
        for ledger in ReplayEngine().sweep(model, clean, chosen, donors.__getitem__, per_component=False):
            lost = ledger.direct_effect - ledger.ablated_direct_effect
            for row, intervention in enumerate(ledger.interventions):  # [prompt, 1 prediction] each
                results[intervention.name] = (float(lost[row].mean()), float(ledger.self_repair[row].mean()))
    return {intervention.name: results[intervention.name] for intervention in chosen}


if __name__ == "__main__":
    model = load(sys.argv[1] if sys.argv[1:] else "gpt2")
    tokens = torch.tensor([model.tokenizer(prompt)["input_ids"] for prompt in PROMPTS], device=model.device)
    first, second = (model.tokenizer(answer, add_special_tokens=False)["input_ids"][0] for answer in ANSWERS)
    movers = [Head(9, 6), Head(9, 9), Head(10, 0)]  # GPT-2's name movers
    for name, (lost, repaired) in repair(model, tokens, (first, second), movers).items():
        print(f"{name:>30}: lost {lost:+.3f}, repaired {repaired:+.3f} logits")
