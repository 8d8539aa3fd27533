"""Time of an audit, beside the same interventions by plain hooks on the whole model.

    python benchmarks/audit.py [--prompts FILE] [--circuit HEADS] [--ablation zero] [--model default]

Every intervention that an audit sends to its engine under the main ablation is recorded, and then made again as one
would by hand: the whole model on the same batches of prompts, with one hook per
module that zeroes outputs or keeps them, and the logit difference read at the answer. Both must agree, or the benchmark
fails. Both run in this process, on as many threads; seconds of the processor are counted, which other work beside does
not lengthen.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from selfrepair import Prompts, audit, load
from selfrepair.ablation.interventions import Intervention, ports_of
from selfrepair.ablation.sites import Site
from selfrepair.effects.ledger import Ledger
from selfrepair.engine.clean import CleanRun
from selfrepair.engine.contract import Replacement
from selfrepair.engine.replay import ReplayEngine
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.ports import Port
from selfrepair.progress import Advance, ignore

CIRCUIT = "L23H3,L29H1,L23H0,L24H4,L29H0,L24H5,L20H1,L27H0"


class Recording(ReplayEngine):
    """Replay that remembers what it is asked for, with the total effects."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Tensor, Intervention, Tensor]] = []

    def sweep(
        self,
        model: LanguageModel,
        clean: CleanRun,
        interventions: Sequence[Intervention],
        replacement: Replacement,
        per_component: bool,
        advance: Advance = ignore,
    ) -> Iterator[Ledger]:
        """See `ReplayEngine.sweep`."""
        for ledger in super().sweep(model, clean, interventions, replacement, per_component, advance):
            for row, intervention in enumerate(ledger.interventions):
                self.seen.append((clean.tokens, intervention, ledger.total_effect[row, :, 0]))
            yield ledger


@contextmanager
def plain_hooks(model: LanguageModel, intervention: Intervention, clean: dict[Port, Tensor]) -> Iterator[None]:
    """Zeroes replaced heads and MLPs, and keeps frozen ones as they were."""
    with ExitStack() as stack:
        for port in sorted(ports_of([intervention])):
            replaced, frozen = (
                [site for site in sites if site.port == port] for sites in (intervention.replaced, intervention.frozen)
            )
            stack.callback(_hook(model, port, replaced, frozen, clean[port]).remove)
        yield


def _hook(model: LanguageModel, port: Port, replaced: list[Site], frozen: list[Site], kept: Tensor) -> Any:
    block = model.anatomy.blocks[port.layer]
    if port.kind == "mlp":
        return block.mlp_write.register_forward_hook(lambda _m, _a, out: torch.zeros_like(out) if replaced else kept)
    size = block.projection.in_features // block.heads

    def columns(sites: list[Site]) -> list[int]:
        return [head * size + place for site in sites for head in site.entries or () for place in range(size)]

    held, gone = columns(frozen), columns(replaced)

    def changed(_module: Any, args: Any) -> Any:
        value = args[0].clone()
        value[..., held] = kept[..., held]
        value[..., gone] = 0
        return (value,)

    return block.projection.register_forward_pre_hook(changed)


def clean_values(model: LanguageModel, tokens: Tensor) -> dict[Port, Tensor]:
    """Inputs of all output projections and outputs of all MLPs, by port."""
    seen: dict[Port, Tensor] = {}
    with ExitStack() as stack:
        for layer, block in enumerate(model.anatomy.blocks):

            def heads(_m: Any, args: Any, layer: int = layer) -> None:
                seen[Port(layer, "heads")] = args[0]

            def mlp(_m: Any, _a: Any, out: Tensor, layer: int = layer) -> None:
                seen[Port(layer, "mlp")] = out

            stack.callback(block.projection.register_forward_pre_hook(heads).remove)
            stack.callback(block.mlp_write.register_forward_hook(mlp).remove)
        model.network(tokens)
    return seen


def by_hand(
    model: LanguageModel, prompts: Prompts, seen: Sequence[tuple[Tensor, Intervention, Tensor]]
) -> tuple[float, float]:
    """Seconds that the recorded interventions take with plain hooks, and the largest difference in logits."""
    where = {
        tuple(tokens[:length].tolist()): row
        for row, (tokens, length) in enumerate(zip(prompts.tokens, prompts.lengths, strict=True))
    }
    right, wrong = (np.array([one[0] for one in each]) for each in (prompts.answers, prompts.wrong))
    start, worst, values = time.process_time(), 0.0, {}
    with torch.inference_mode():
        for tokens, intervention, expected in seen:
            rows = [where[tuple(one)] for one in tokens.tolist()]
            key = tuple(rows)
            if key not in values:
                values[key] = clean_values(model, tokens), _difference(model, tokens, right[rows], wrong[rows])
            clean, before = values[key]
            with plain_hooks(model, intervention, clean):
                effect = _difference(model, tokens, right[rows], wrong[rows]) - before
            worst = max(worst, float((effect - expected).abs().max()))
    return time.process_time() - start, worst


def _difference(model: LanguageModel, tokens: Tensor, right: np.ndarray, wrong: np.ndarray) -> Tensor:
    logits = model.network(tokens).logits[:, -1]
    rows = torch.arange(len(tokens))
    difference: Tensor = logits[rows, torch.from_numpy(right)] - logits[rows, torch.from_numpy(wrong)]
    return difference


def main() -> None:
    """Prints times and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=Path, required=True, help="prompts with answers at their end")
    parser.add_argument("--circuit", default=CIRCUIT)
    parser.add_argument("--model", default="default")
    parser.add_argument("--part", type=int, default=8, help="make every so many-th intervention by hand, and scale up")
    given = parser.parse_args()
    model = load(given.model)
    prompts = Prompts.read(given.prompts, model)
    engine, start = Recording(), time.process_time()
    audit(model, prompts, given.circuit, ablation="zero", engine=engine, operators=())
    audited = time.process_time() - start
    part = engine.seen[:: given.part]
    hooks, worst = by_hand(model, prompts, part)
    hooks *= sum(len(tokens) for tokens, _, _ in engine.seen) / sum(len(tokens) for tokens, _, _ in part)
    number = sum(len(tokens) for tokens, _, _ in engine.seen)
    print(f"{torch.get_num_threads()} threads · {len(prompts)} prompts · {number} ablated prompts")
    print(f"audit, with every line, test and interval  {audited:7.1f} s")
    print(f"plain hooks, effects alone                 {hooks:7.1f} s   {hooks / audited:.1f} times as long")
    print(f"largest difference between their effects   {worst:.1e} logits")
    if not worst < 1e-2:
        raise SystemExit("They do not measure the same.")


if __name__ == "__main__":
    main()
