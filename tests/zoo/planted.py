"""Planted truth: GPT-2 objects with hand-set weights, in which who repairs what is known in numbers.

Every feature is a pair of dimensions: writing feature i with strength s adds +s/2 and -s/2 to dimensions i
and i+16, reading it takes their difference; so the stream has zero mean and a written feature reads back as
s. The norms are made constant by eps = 1e12 and gain 1e6, up to 1e-12 (the trick of LayerNorm-free GPT-2).
The unembedding reads feature ANS for the token ANSWER; its direct effect is the strength written, in
centred logits.

The text is BOS, SOURCE, TASK, ANSWER; at TASK (position 2) the model must predict ANSWER, which the source
says. In the donor text the source is replaced by a neutral token.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from .anatomy import ANATOMY, Anatomy

LAYERS, HEADS, HEAD_DIM, FEATURES, VOCAB = 2, 4, 8, 16, 6
WIDTH = 2 * FEATURES
BOS, SOURCE, TASK, NEUTRAL, ANSWER, OTHER = range(VOCAB)
ANS, SRC, TSK, DONE, START, CONTENT, NEUT, BULK, COUNT, CLOSE, ELSE = range(11)  # features
POSITION = 2
SHARP = 80.0  # attention score of a chosen source; the rest gets less than 1e-17
GPT2_ANATOMY: Anatomy = replace(ANATOMY["gpt2"], head_dim=HEAD_DIM)


@dataclass(frozen=True)
class Planted:
    """A model, the windows, the ablation, and the numbers a measurement must read back at `position`.

    Effects are in centred logits of the next token. `head_lines` and `mlp_lines` are the changes of direct
    effect of those components that change; all others are zero. `clean_heads` are clean direct effects of
    heads worth a look.
    """

    name: str
    model: GPT2LMHeadModel  # float64
    direct_effect: float
    ablated_direct_effect: float
    total_effect: float
    head_lines: dict[tuple[int, int], float] = field(default_factory=dict)
    mlp_lines: dict[int, float] = field(default_factory=dict)
    norm: float = 0.0
    clean_heads: dict[tuple[int, int], float] = field(default_factory=dict)
    layer: int = 0
    head: int = 0
    position: int = POSITION
    tokens: Tensor = field(default_factory=lambda: torch.tensor([[BOS, SOURCE, TASK, ANSWER]]))
    donors: Tensor = field(default_factory=lambda: torch.tensor([[BOS, NEUTRAL, TASK, ANSWER]]))
    anatomy: Anatomy = GPT2_ANATOMY

    @property
    def heads(self) -> float:
        return sum(self.head_lines.values())

    @property
    def mlps(self) -> float:
        return sum(self.mlp_lines.values())

    @property
    def self_repair(self) -> float:
        return self.total_effect - (self.ablated_direct_effect - self.direct_effect)

    @property
    def repaired_share(self) -> float:
        """Self-repair per direct effect removed."""
        return self.self_repair / (self.direct_effect - self.ablated_direct_effect)


# ----------------------------------------------------------------------------------------- building blocks


def write(**strengths: float) -> Tensor:
    """The vector that writes the named features [width], e.g. write(ANS=1.0)."""
    return _spread(strengths, 0.5)


def read(**strengths: float) -> Tensor:
    """The vector that reads a weighted sum of the named features [width]."""
    return _spread(strengths, 1.0)


def _spread(strengths: dict[str, float], each: float) -> Tensor:
    vector = torch.zeros(WIDTH, dtype=torch.float64)
    for name, strength in strengths.items():
        feature = globals()[name]
        vector[feature] += each * strength
        vector[feature + FEATURES] -= each * strength
    return vector


def blank(live_final_norm: bool = False) -> GPT2LMHeadModel:
    """A GPT-2 whose heads and MLPs do nothing, with the embeddings and the unembedding of the text above."""
    config = GPT2Config(
        vocab_size=VOCAB,
        n_positions=8,
        n_embd=WIDTH,
        n_layer=LAYERS,
        n_head=HEADS,
        n_inner=6,
        activation_function="relu",
        layer_norm_epsilon=1e12,
        tie_word_embeddings=False,
        bos_token_id=BOS,
        eos_token_id=OTHER,
    )
    model = GPT2LMHeadModel(config).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        for name, module in model.named_modules():
            if name.endswith(("ln_1", "ln_2", "ln_f")):
                module.weight.fill_(1e6)
        if live_final_norm:
            model.transformer.ln_f.weight.fill_(1.0)
            model.transformer.ln_f.eps = 1e-5
        rows = {
            BOS: write(START=1),
            SOURCE: write(SRC=1, CONTENT=1),
            TASK: write(TSK=1),
            NEUTRAL: write(NEUT=1),
            OTHER: write(ELSE=1),
        }
        for token, row in rows.items():
            model.transformer.wte.weight[token] = row
        # centring over the vocabulary leaves (V-1)/V of the only row that is not zero
        model.lm_head.weight[ANSWER] = read(ANS=1) * VOCAB / (VOCAB - 1)
    return model


def set_head(
    model: GPT2LMHeadModel,
    layer: int,
    head: int,
    pairs: list[tuple[Tensor, Tensor]],
    value: Tensor,
    out: Tensor,
) -> None:
    """A head with score = sum over `pairs` of (query read) * (key read), that copies `value` to `out`."""
    attention = model.transformer.h[layer].attn
    start = head * HEAD_DIM
    with torch.no_grad():
        for i, (query, key) in enumerate(pairs):
            attention.c_attn.weight[:, start + i] = query * HEAD_DIM**0.5
            attention.c_attn.weight[:, WIDTH + start + i] = key
        attention.c_attn.weight[:, 2 * WIDTH + start] = value
        attention.c_proj.weight[start] = out


def set_neuron(model: GPT2LMHeadModel, layer: int, neuron: int, reads: Tensor, out: Tensor, bias: float = 0.0) -> None:
    """A ReLU neuron."""
    mlp = model.transformer.h[layer].mlp
    with torch.no_grad():
        mlp.c_fc.weight[:, neuron] = reads
        mlp.c_fc.bias[neuron] = bias
        mlp.c_proj.weight[neuron] = out


def set_primary(model: GPT2LMHeadModel, layer: int = 0, head: int = 0, **strengths: float) -> None:
    """At TASK: attend to the source if there is one, else to BOS, and write what it says (BOS: nothing)."""
    pairs = [(read(TSK=SHARP), read(SRC=1)), (read(TSK=SHARP / 2), read(START=1))]
    set_head(model, layer, head, pairs, read(CONTENT=1), write(**(strengths or {"ANS": 1, "DONE": 1})))


def set_backup(model: GPT2LMHeadModel, share: float, layer: int = 1, head: int = 0) -> None:
    """As the primary head, but it looks away to BOS where the primary has left its "done" flag."""
    pairs = [(read(TSK=SHARP, DONE=-SHARP), read(SRC=1)), (read(TSK=SHARP / 2), read(START=1))]
    set_head(model, layer, head, pairs, read(CONTENT=1), write(ANS=share))


# ------------------------------------------------------------------------------------------------- the zoo


def backup(r: float = 0.6) -> Planted:
    """A backup head restores the share r; clean, it does nothing."""
    model = blank()
    set_primary(model)
    set_backup(model, r)
    return Planted(
        "backup",
        model,
        1.0,
        0.0,
        total_effect=r - 1,
        head_lines={(1, 0): r},
        clean_heads={(0, 0): 1.0, (1, 0): 0.0},
    )


def erasure(c: float = 0.3) -> Planted:
    """A neuron erases the share c of what is written; with negative c it amplifies: negative repair."""
    model = blank()
    set_primary(model)
    set_neuron(model, 1, 0, read(ANS=1), write(ANS=-c))
    return Planted("erasure" if c >= 0 else "amplifier", model, 1.0, 0.0, total_effect=c - 1, mlp_lines={1: c})


def backup_and_erasure(r: float = 0.6, c: float = 0.3) -> Planted:
    """Both: r comes back from the backup head, c (1 - r) from less erasure; 72% by default."""
    model = blank()
    set_primary(model)
    set_backup(model, r)
    set_neuron(model, 1, 0, read(ANS=1), write(ANS=-c))
    return Planted(
        "backup_and_erasure",
        model,
        1.0,
        0.0,
        total_effect=(1 - c) * (r - 1),
        head_lines={(1, 0): r},
        mlp_lines={1: c * (1 - r)},
        clean_heads={(0, 0): 1.0, (1, 0): 0.0},
    )


def copy_suppressor(s: float = 0.6, odds: float = 18.0) -> Planted:
    """A negative head attends to the source, the more the answer is already predicted, and writes against it.

    Of three visible positions the source has score ln(odds) while the answer is predicted and 0 while it is
    not: its attention falls from odds / (odds + 2) to 1/3.
    """
    model = blank()
    set_primary(model)
    predicted = math.log(odds)
    set_head(model, 1, 1, [(read(ANS=predicted), read(SRC=1))], read(CONTENT=1), write(ANS=-s))
    clean, ablated = -s * odds / (odds + 2), -s / 3
    return Planted(
        "copy_suppressor",
        model,
        1.0,
        0.0,
        total_effect=ablated - (1 + clean),
        head_lines={(1, 1): ablated - clean},
        clean_heads={(1, 1): clean},
    )


def _against(name: str, model: GPT2LMHeadModel, clean: float, line: float) -> Planted:
    """A primary head worth 1, and a head L1H1 that writes against it on the clean run."""
    lines, before = {(1, 1): line}, {(1, 1): clean}
    return Planted(name, model, 1.0, 0.0, total_effect=line - 1, head_lines=lines, clean_heads=before)


def released_suppressor(s: float = 0.6) -> Planted:
    """A negative head that always attends to its own position, and writes against the answer it reads there."""
    model = blank()
    set_primary(model)
    set_head(model, 1, 1, [(read(TSK=SHARP), read(TSK=1))], read(ANS=1), write(ANS=-s))
    return _against("released_suppressor", model, clean=-s, line=s)


def re_aimed_suppressor(s: float = 0.6) -> Planted:
    """A negative head that attends to the source while the answer is predicted; else it attends to BOS, which it reads
    with the opposite sign: it writes for the answer then."""
    model = blank()
    set_primary(model)
    pairs = [(read(ANS=2 * SHARP), read(SRC=1)), (read(TSK=SHARP), read(START=1))]
    set_head(model, 1, 1, pairs, read(CONTENT=1, START=-1), write(ANS=-s))
    return _against("re_aimed_suppressor", model, clean=-s, line=2 * s)


def turned_suppressor(s: float = 0.6) -> Planted:
    """A negative head that turns round without attending elsewhere: what its own position holds changes its sign."""
    model = blank()
    set_primary(model)
    set_head(model, 1, 1, [(read(TSK=SHARP), read(TSK=1))], read(ANS=2, TSK=-1), write(ANS=-s))
    return _against("turned_suppressor", model, clean=-s, line=2 * s)


def two_writers(share: float = 0.4) -> Planted:
    """Two heads always write the answer, and one is lost: no repair, TE is its direct effect's change."""
    model = blank()
    set_primary(model, ANS=share)
    set_primary(model, layer=1, head=2, ANS=1 - share)
    return Planted("two_writers", model, share, 0.0, total_effect=-share, clean_heads={(1, 2): 1 - share})


def either_will_do() -> Planted:
    """Two heads write one inner feature and an MLP saturates on it: DE = TE = 0, redundant, no repair."""
    model = blank()
    set_primary(model, COUNT=1)
    set_primary(model, layer=0, head=1, COUNT=1)
    set_neuron(model, 0, 0, read(COUNT=1), write(ANS=1))
    set_neuron(model, 0, 1, read(COUNT=1), write(ANS=-1), bias=-1.0)
    return Planted("either_will_do", model, 0.0, 0.0, total_effect=0.0, clean_heads={(0, 1): 0.0})


def constant_writer() -> Planted:
    """A head that looks at BOS and writes the answer whatever the text: resampling changes nothing."""
    model = blank()
    pairs = [(read(TSK=SHARP), read(START=1))]
    set_head(model, 0, 0, pairs, read(START=1), write(ANS=1))
    return Planted("constant_writer", model, 1.0, 1.0, total_effect=0.0, clean_heads={(0, 0): 1.0})


def bias_writer() -> Planted:
    """A head whose value bias writes the answer: that constant belongs to no head, its direct effect is zero.

    Zero ablation leaves the constant in place and so changes nothing either.
    """
    model = blank()
    with torch.no_grad():
        model.transformer.h[0].attn.c_attn.bias[2 * WIDTH] = 1.0
        model.transformer.h[0].attn.c_proj.weight[0] = write(ANS=1)
    return Planted("bias_writer", model, 0.0, 0.0, total_effect=0.0, clean_heads={(0, 0): 0.0})


def norm_only(kept: float = 1.0, own: float = 0.5, bulk: float = 4.0) -> Planted:
    """A last-layer head writes `own` of the answer and much bulk; without it the final scale is smaller.

    The task token itself carries `kept` of the answer. A feature of strength s adds s^2 / 64 to the
    variance, so sigma^2 = (1 + (kept + own)^2 + bulk^2) / 64 + eps and sigma'^2 = (1 + kept^2) / 64 + eps.
    Nobody else changes: SR = norm = kept / sigma' - kept / sigma.
    """
    model = blank(live_final_norm=True)
    with torch.no_grad():
        model.transformer.wte.weight[TASK] += write(ANS=kept)
    set_primary(model, layer=LAYERS - 1, ANS=own, BULK=bulk)
    eps = model.transformer.ln_f.eps
    sigma = ((1 + (kept + own) ** 2 + bulk**2) / (2 * WIDTH) + eps) ** 0.5
    sigma_ablated = ((1 + kept**2) / (2 * WIDTH) + eps) ** 0.5
    return Planted(
        "norm_only",
        model,
        own / sigma,
        0.0,
        total_effect=kept / sigma_ablated - (kept + own) / sigma,
        norm=kept / sigma_ablated - kept / sigma,
        layer=LAYERS - 1,
    )


PLANTED: dict[str, Callable[[], Planted]] = {
    "backup": backup,
    "erasure": erasure,
    "amplifier": lambda: erasure(-0.5),
    "backup_and_erasure": backup_and_erasure,
    "copy_suppressor": copy_suppressor,
    "released_suppressor": released_suppressor,
    "re_aimed_suppressor": re_aimed_suppressor,
    "turned_suppressor": turned_suppressor,
    "two_writers": two_writers,
    "either_will_do": either_will_do,
    "constant_writer": constant_writer,
    "bias_writer": bias_writer,
    "norm_only": norm_only,
}
