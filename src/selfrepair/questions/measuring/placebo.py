"""The placebo: a random replacement of like size, the baseline of "response to being hit"."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import torch
from torch import Tensor

from selfrepair.ablation.operators import Operator, Source
from selfrepair.errors import SelfRepairError
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.ports import Port


@dataclass(frozen=True, eq=False)
class Placebo(Operator):
    """Adds a random change that is as large, at every position, as the one another ablation makes.

    The change lies in what the site can write: a random vector where heads are read, through `W_O`, scaled so that the
    write changes by as much (in Euclidean norm) as under `base`. It is the same vector at all positions and prompts,
    and another one for each of `draws`; effects are averaged over them. Responses to it are not responses to a lost
    write, since none was lost.

    Attributes:
        base: the ablation whose size is matched.
        model: whose output maps are used.
        draws: random vectors.
        seed: of their draw.
    """

    base: Operator
    model: LanguageModel
    draws: int = 8
    seed: int = 0
    name: str = "placebo"

    @property
    def donors(self) -> int:
        """As many as the ablation that is matched."""
        return self.base.donors

    def replacement(self, port: Port, clean: Tensor, source: Source, draw: int) -> Tensor:
        """See `Operator.replacement`.

        Raises:
            SelfRepairError: a direction of the stream, along which there is nothing to choose.
        """
        if port.kind == "stream":
            raise SelfRepairError(
                f"A placebo of a direction (layer {port.layer}) is the ablation itself or its opposite: a change along "
                "one vector has nothing random but its sign.",
                "Ablate a Direction with a random vector for comparison.",
            )
        change = self.base.replacement(port, clean, source, 0).to(clean) - clean
        vector = self._vector(port, clean, draw)
        sizes, size = self._sizes(port, change), self._sizes(port, vector)
        return clean + vector * (sizes / size.clamp_min(torch.finfo(clean.dtype).tiny)).unsqueeze(-1)

    def _vector(self, port: Port, clean: Tensor, draw: int) -> Tensor:
        """A random vector per entry, [entry, size]."""
        key = zlib.crc32(f"{self.seed} {port} {draw}".encode())
        generator = torch.Generator().manual_seed(key)
        return torch.randn(*clean.shape[-2:], generator=generator, dtype=torch.float64).to(clean)

    def _sizes(self, port: Port, change: Tensor) -> Tensor:
        """By how much a change of outputs [..., entry, size] changes each entry's write, [..., entry]."""
        if port.kind == "heads":
            weight = self.model.anatomy.blocks[port.layer].output_weight
            change = torch.einsum("...he,hed->...hd", change, weight)
        size: Tensor = change.norm(dim=-1)
        return size
