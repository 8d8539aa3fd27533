"""Effects of ablating a head at the position that predicts a token, and nowhere else, for chosen tokens.

What earlier positions put out is untouched, so of every such run a single position's stream is computed, from the
head's layer up; it attends to clean keys and values of the earlier positions of its window, and to its own
(`own_position.position_copies`). All runs of a window move up together, one row each. Mixers take no such masks: blocks
with one get each row's whole window, which costs what replaying them does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from selfrepair.ablation.interventions import Intervention, by_start
from selfrepair.ablation.sites import Head
from selfrepair.effects.ledger import Ledger
from selfrepair.engine.accounts import require_sites
from selfrepair.engine.clean import CleanRun
from selfrepair.engine.contract import Replacement, Settings
from selfrepair.engine.own_position.climb import Climb
from selfrepair.engine.own_position.position_copies import IDENTITY
from selfrepair.engine.own_position.position_rows import Ledgers, Rows
from selfrepair.errors import RefusedModel, SelfRepairError
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.own_forward import stream_errors
from selfrepair.model.ports import Port
from selfrepair.model.proofs import tolerance
from selfrepair.model.usual_layers import require_plain_stream
from selfrepair.progress import Advance, ignore


@dataclass
class OwnPositionEngine:
    """Ablates heads at one position of each run: the one whose prediction is read.

    Example:
        >>> chosen = each([Head(0, 1)])
        >>> with model.running():
        ...     (ledger,) = OwnPositionEngine().sweep(model, clean, chosen, donors.__getitem__, per_component=False)
        >>> ledger.total_effect.shape  # [intervention, window, P]: every prediction has a run of its own
        torch.Size([1, 2, 11])

    Attributes:
        rows: how many runs pass a block together with their window.
        runs: how many interventions are held at a time, where memory does not hold all.
    """

    rows: int = 512
    runs: int | None = None
    name: str = "own-position"

    @property
    def exact(self) -> bool:
        """See `selfrepair.engine.contract.Engine`: it runs the model's own blocks."""
        return True

    @property
    def settings(self) -> Settings:
        """See `selfrepair.engine.contract.Engine`."""
        return {"rows": self.rows, "runs": self.runs}

    def sweep(
        self,
        model: LanguageModel,
        clean: CleanRun,
        interventions: Sequence[Intervention],
        replacement: Replacement,
        per_component: bool,
        advance: Advance = ignore,
        wanted: Tensor | None = None,
    ) -> Iterator[Ledger]:
        """Ledgers as of `selfrepair.engine.contract.Engine`, but of runs that are ablated at one position only.

        Args:
            model: the model.
            clean: the clean run of a batch of windows; it reads next tokens.
            interventions: single heads.
            replacement: what to put in the heads' places.
            per_component: whether ledgers get a line for every downstream head.
            advance: called with the work done, in blocks times interventions times windows.
            wanted: predictions to compute, bool [intervention, window, P] in the order of `interventions`; all by
                default. The effects of others are NaN.

        Raises:
            SelfRepairError: outside `model.running()`; interventions on anything but single heads.
        """
        model.require_running("sweep")
        require_single_heads(interventions)
        require_sites(model, clean.tokens.shape[1], interventions)
        if wanted is None:
            wanted = torch.ones(len(interventions), *clean.reading.shape, dtype=torch.bool)
        place = {intervention: number for number, intervention in enumerate(interventions)}
        ordered = [intervention for _, group in by_start(interventions) for intervention in group]
        most = self.runs or max(1, len(ordered))
        for start in range(0, len(ordered), most):
            chosen = [
                intervention for _, group in reversed(by_start(ordered[start : start + most])) for intervention in group
            ]
            asked = wanted[[place[intervention] for intervention in chosen]]
            yield from self._wave(model, clean, chosen, cache(replacement), per_component, asked, advance)

    def _wave(
        self,
        model: LanguageModel,
        clean: CleanRun,
        interventions: Sequence[Intervention],
        replacement: Replacement,
        per_component: bool,
        wanted: Tensor,
        advance: Advance,
    ) -> Iterator[Ledger]:
        """Moves up the runs of some interventions, those that start lowest first."""
        heads = [_head(intervention) for intervention in interventions]
        ledgers = Ledgers(model.anatomy, clean, interventions, per_component)
        for number, head in enumerate(heads):
            port = Port(head.layer, "heads")
            ledgers.values["direct_effect"][number] = clean.direct_effects_at(port)[..., head.head]
            after = clean.direct_effects_at(port, replacement(port))[..., head.head]
            ledgers.values["ablated_direct_effect"][number] = after
        starts, entries = (torch.tensor(part, device=clean.sigma.device) for part in zip(*heads, strict=True))
        blocks = sum(model.anatomy.layers - head.layer for head in heads)
        for window in range(len(clean.tokens)):
            runs, positions = wanted[:, window].nonzero(as_tuple=True)
            runs, positions = runs.to(clean.sigma.device), positions.to(clean.sigma.device)
            rows = Rows(window, runs, starts[runs], entries[runs], positions)
            for first in range(0, len(rows), self.rows):
                part = rows.part(slice(first, first + self.rows))
                climb = Climb(model, clean, part, replacement, per_component)
                climb.book.finish(climb.run()[0])
                ledgers.take(climb.book)
            advance(blocks)
        first = 0
        for _, group in reversed(by_start(interventions)):
            yield ledgers.ledger(slice(first, first + len(group)))
            first += len(group)


def require_single_heads(interventions: Sequence[Intervention]) -> None:
    """Refuses interventions that are not the ablation of one whole head.

    Raises:
        SelfRepairError: naming the first.
    """
    other = next((intervention for intervention in interventions if intervention.kind != "head"), None)
    if other is not None:
        raise SelfRepairError(
            f"At its own position only a single head is ablated; '{other}' is another intervention.",
            "Ablate it at all positions (positions 'all', estimate 'exact').",
        )


def require_own_positions(model: LanguageModel, clean: CleanRun) -> None:
    """Proves on the first window that rows of its positions, with nothing replaced, end where the model's do.

    Call under `model.running()`.

    Raises:
        SelfRepairError: layers share more than a plain residual stream.
        RefusedModel: they do not, or the model's blocks take no such copies.
    """
    require_plain_stream(model.anatomy, "own positions")
    length, allowed = clean.reading.shape[1], tolerance(model.dtype)
    device = clean.sigma.device
    positions, none = torch.arange(length, device=device), torch.zeros(length, dtype=torch.long, device=device)
    try:
        climb = Climb(model, clean, Rows(0, none, none, none, positions), clean.outputs_at, False)
        stream, strayed = climb.run()
    except RefusedModel:
        raise
    except (RuntimeError, TypeError, ValueError, IndexError) as problem:
        raise _refused(f"a block does not take copies of positions ({type(problem).__name__}: {problem}).") from problem
    error = float(torch.maximum(strayed, stream_errors(stream[None], clean.reading.at(clean.final)[:1]).max()))
    if not error <= allowed:
        raise _refused(
            f"a copy of a position that attends to the same positions ends elsewhere, by {error:.1e} of the stream's "
            f"size; {allowed:.0e} is allowed."
        )


def _refused(reason: str) -> RefusedModel:
    return RefusedModel(
        IDENTITY,
        reason,
        "Blocks that know positions by more than their arguments (masks of their own, say) can be ablated at all "
        "positions only: --positions all --estimate exact.",
    )


def _head(intervention: Intervention) -> Head:
    (site,) = intervention.replaced
    assert isinstance(site, Head)
    return site
