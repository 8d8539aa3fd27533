"""The parts of a decoder that the ledger needs, with their weights ready for use."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from selfrepair.model.gains import Gains, Write
from selfrepair.model.norms import Norm
from selfrepair.model.ports import Port
from selfrepair.model.taps import Place


class Absent(nn.Module):
    """Stands for a part that a block does not have. Nothing calls it, so that no hook on it ever fires."""


@dataclass(frozen=True)
class Block:
    """One decoder block:
    `output = stream_multiplier * input + (sum of multiplier * write) / later_multiplier + constant`.

    Multipliers of writes are those with which they arrive in the final stream. Parts that the block does not have are
    `Absent`.

    Attributes:
        module: the Hugging Face module.
        projection: attention's output projection; its input holds all heads' outputs side by side.
        output_weight: W_O, shape [heads, head_dim, width]; no heads in a layer without any.
        value_constant: what each head puts out no matter what it attends to (`b_V + W_V b_norm`, docs/methods.md 1.1);
            it belongs to no head and is left out of a head's output. Shape [heads, head_dim].
        plain_means: whether heads put out means of values; with attention sinks, gated outputs or a norm over all heads
            they do not, and the value constant is zero.
        attention_write: the module whose output, times `attention_multiplier`, is added to the stream.
        attention_norm: the norm that attention's write passes through, where there is one (Gemma 2, OLMo 2).
        mlp_write: the module whose output, times `mlp_multiplier`, is added to the stream.
        parallel: whether the MLP reads the block's input rather than attention's result.
        returns: of how many values the tuple is in which the module returns its hidden states; 0 if of none.
        mixer_write: the module whose output, times `mixer_multiplier`, a mixer adds: what moves information between
            positions without heads, in place of attention (LFM2, Jamba, Qwen3-Next) or beside it (Falcon-H1).
        more_mlps: further modules that are added, each with its multiplier: experts beside an MLP (Granite 4), inputs
            of the layer's own (Gemma 4).
        stream_multiplier: what the block multiplies its input with (Gemma 4's layer scalars).
        later_multiplier: the product of these of all later blocks.
        constant: what the block adds that no module puts out (the bias of GPT-NeoX Japanese), [width]; None for
            nothing. Ablated runs have it too, so that no effect depends on it.
        gains: multipliers by dimension of the input and of the writes, where these have some (Doge), beside multipliers
            of 1; None elsewhere.
    """

    module: nn.Module
    projection: nn.Module
    output_weight: Tensor
    value_constant: Tensor
    plain_means: bool
    attention_write: nn.Module
    attention_multiplier: float
    attention_norm: Norm | None
    mlp_write: nn.Module
    mlp_multiplier: float
    parallel: bool
    returns: int
    mixer_write: nn.Module = field(default_factory=Absent)
    mixer_multiplier: float = 1.0
    more_mlps: tuple[tuple[nn.Module, float], ...] = ()
    stream_multiplier: float = 1.0
    later_multiplier: float = 1.0
    constant: Tensor | None = None
    gains: Gains | None = None

    @property
    def has_mixer(self) -> bool:
        """Whether something moves information between positions without heads."""
        return not isinstance(self.mixer_write, Absent)

    @property
    def mlps(self) -> tuple[tuple[nn.Module, float], ...]:
        """All MLPs' writes with their multipliers; none in a block that is attention or a mixer alone."""
        first = () if isinstance(self.mlp_write, Absent) else ((self.mlp_write, self.mlp_multiplier),)
        return (*first, *self.more_mlps)

    def with_gain(self, vector: Tensor, write: Write) -> Tensor:
        """A write as it arrives in the final stream, but for its multiplier; or a direction of the final stream as that
        write is read along.

        Args:
            vector: [..., width].
            write: which write.
        """
        return vector if self.gains is None else vector * (self.gains.of(write) * self.gains.later)

    def own_multiplier(self, multiplier: float, write: Write) -> float | Tensor:
        """A write's multiplier in the block, times `later_multiplier`; [width] where each dimension has its own."""
        return multiplier if self.gains is None else self.gains.of(write)

    @property
    def mlp_parts(self) -> tuple[int, ...]:
        """`Port.part` of each of the MLP's writes: -1 for the only one."""
        return (-1,) if len(self.mlps) == 1 else tuple(range(len(self.mlps)))

    def multiplier(self, port: Port) -> float:
        """The factor with which what is at a port of heads, a mixer or an MLP arrives in the final stream."""
        if port.kind == "mlp":
            return self.mlps[port.write][1]
        return self.mixer_multiplier if port.kind == "mixer" else self.attention_multiplier

    def scaled(self, later: float) -> Block:
        """The block below others that multiply what it puts out with `later`."""
        if later == 1:
            return self
        return replace(
            self,
            attention_multiplier=self.attention_multiplier * later,
            mlp_multiplier=self.mlp_multiplier * later,
            mixer_multiplier=self.mixer_multiplier * later,
            more_mlps=tuple((module, multiplier * later) for module, multiplier in self.more_mlps),
            later_multiplier=later,
        )

    @property
    def heads(self) -> int:
        """Number of attention heads."""
        return self.output_weight.shape[0]

    @property
    def head_dim(self) -> int:
        """Width of one head's output."""
        return self.output_weight.shape[1]

    @property
    def heads_place(self) -> Place:
        """Where heads' outputs are: what the output projection reads."""
        return Place(self.projection, True, self.heads, self.head_dim, self.value_constant)

    def through_norm(self, direction: Tensor) -> Tensor:
        """The direction that, on the projection's output (over the norm's scale), reads what `direction` reads
        on the residual stream."""
        norm, direction = self.attention_norm, self.with_gain(direction, "attention")
        if norm is None and self.attention_multiplier == 1:
            return direction  # the same tensor: one copy serves all layers
        return self.attention_multiplier * (direction if norm is None else norm.fold(direction))


@dataclass(frozen=True)
class Unembedding:
    """The unembedding: `logits = cap * tanh(multiplier * (W n + b) / cap)`, no cap where `softcap` is None.

    All effects are in logits before the cap, where they are linear in the final norm's output.

    Attributes:
        weight: [vocabulary, width].
        bias: [vocabulary].
        multiplier: the factor of the model's logits.
        softcap: the value that it caps them at.
        masked: rows that the model switches off for good (`model.constants.masked_rows`), bool [vocabulary]. They have
            no logit, so they are left out of the mean that centres the others; padded rows that have one are not.
    """

    weight: Tensor
    bias: Tensor | None
    multiplier: float
    softcap: float | None
    masked: Tensor | None = None

    def logits(self, normed: Tensor) -> Tensor:
        """Logits before any cap [..., vocabulary], from what the final norm puts out [..., width]."""
        logits = normed @ self.weight.T
        return self.multiplier * (logits if self.bias is None else logits + self.bias)

    def own(self, logits: Tensor) -> Tensor:
        """Logits as the model's probabilities have them, from those before the cap: capped, masked rows at -inf."""
        capped = self.capped(logits)
        return capped if self.masked is None else capped.masked_fill(self.masked, -torch.inf)

    def capped(self, logits: Tensor) -> Tensor:
        """Logits as the model gives them, from those before the cap."""
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)

    def uncapped(self, logits: Tensor) -> Tensor:
        """The model's logits as they were before the cap."""
        return logits if self.softcap is None else self.softcap * torch.atanh(logits / self.softcap)

    @cached_property
    def counted(self) -> Tensor:
        """Numbers of the rows that have a logit: those over which logits are centred."""
        if self.masked is None:
            return torch.arange(len(self.weight), device=self.weight.device)
        return (~self.masked).nonzero().flatten()

    def centred(self, logits: Tensor) -> Tensor:
        """Logits [..., vocabulary] less their mean over the rows that have one."""
        return logits - (logits if self.masked is None else logits[..., self.counted]).mean(-1, keepdim=True)

    @cached_property
    def mean_weight(self) -> Tensor:
        """Mean unembedding row over the vocabulary, padded rows included, masked ones left out; [width]."""
        counted = self.weight if self.masked is None else self.weight[self.counted]
        return counted.mean(0, dtype=torch.float64).to(self.weight.dtype)

    @cached_property
    def mean_bias(self) -> float:
        """Mean unembedding bias over the same rows."""
        return 0.0 if self.bias is None else float(self.bias[self.counted].double().mean())

    def constants(self, norm: Norm) -> Tensor:
        """The constant part of every row's logit, which does not depend on the stream, [vocabulary].

        Args:
            norm: the final norm, whose bias all rows read.
        """
        constants = self.weight @ norm.bias
        return self.multiplier * (constants if self.bias is None else constants + self.bias)


@dataclass(frozen=True)
class Anatomy:
    """A decoder: `trunk` (embeddings to final norm), its blocks, the final norm and the unembedding.

    Attributes:
        alone: whether blocks can be run one by one: they need no more than their input and arguments that the trunk
            makes without running others. Where layers share keys and values (Gemma 4 E2B) they need more.
    """

    trunk: nn.Module
    blocks: tuple[Block, ...]
    final_norm: Norm
    final_norm_module: nn.Module
    unembedding: Unembedding
    alone: bool = True

    @property
    def layers(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    @property
    def heads(self) -> int:
        """Heads per layer; the largest number where layers differ."""
        return max(block.heads for block in self.blocks)

    @property
    def heads_by_layer(self) -> list[int]:
        """How many heads each layer has."""
        return [block.heads for block in self.blocks]

    @property
    def layers_with_heads(self) -> list[int]:
        """Layers that have heads: all of them, but for hybrids (LFM2, Jamba, Nemotron-H)."""
        return [layer for layer, block in enumerate(self.blocks) if block.heads]

    @property
    def mlp_writes(self) -> int:
        """With how many modules the MLP of a layer writes at most; 1 where no layer has an MLP."""
        return max(1, *(len(block.mlps) for block in self.blocks))

    @property
    def has_mixers(self) -> bool:
        """Whether some layer has a mixer."""
        return any(block.has_mixer for block in self.blocks)

    @property
    def heads_in_words(self) -> str:
        """How many heads layers have: '12', '8 to 12' where they differ, or 'no'."""
        if not self.heads:
            return "no"
        fewest = min(self.heads_by_layer)
        return str(self.heads) if fewest == self.heads else f"{fewest} to {self.heads}"

    @property
    def width(self) -> int:
        """Width of the residual stream."""
        return self.final_norm.gain.shape[0]

    @property
    def has_post_norms(self) -> bool:
        """Whether attention's write passes through a norm in some layer."""
        return any(block.attention_norm is not None for block in self.blocks)
