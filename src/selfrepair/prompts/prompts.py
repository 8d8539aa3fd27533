"""Prompts as token ids: what interventions are measured on."""

from __future__ import annotations

import hashlib
import html
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import NDArray

from selfrepair.effects.readouts import LogitDifference
from selfrepair.errors import SelfRepairError
from selfrepair.prompts.prompt import Dropped, Prompt
from selfrepair.prompts.tokenising import Tokenising
from selfrepair.terminal import plain

if TYPE_CHECKING:
    import pandas as pd

Numbers = NDArray[np.integer[Any]]


@dataclass(frozen=True, eq=False)
class Prompts:
    """Prompts in token ids, with answers, twins, groups and spans. Made by `read`, `of` and `from_pairs`.

    Example:
        >>> prompts = Prompts.of([Prompt("A and B: B saw ", ("A",), ("B",), corrupt="A and B: C saw ")], model)
        >>> len(prompts), prompts.tokens.shape, prompts.positions.tolist()  # `<s>` is put in front
        (1, (1, 16), [15])
        >>> prompts.readout().positions, prompts.corrupt.shape
        ((15,), (1, 16))

    Attributes:
        tokens: token ids [prompt, position], padded on the right, with what stands in front (a beginning-of-sequence
            token).
        lengths: real tokens of each prompt [prompt].
        corrupt: the corrupted twins, of the same shape and lengths; None where not every prompt has one.
        answers: by prompt, tokens of right answers; empty where only the change of the distribution is measured.
        wrong: by prompt, tokens of wrong answers; empty for the answers' centred logit.
        positions: of the stream, from 0, that predict the answers [prompt].
        spans: by prompt, named stretches [start, end) of `tokens`.
        ids: what results call each prompt.
        groups: what each was made from (its template); prompts of one group are no independent samples.
        texts: each prompt as text, to be shown.
        weights: how much each counts in means [prompt].
        dropped: prompts that could not be used, with reasons.
        provenance: file, checksum, format, what stands in front, tokenizer, counterfactual; JSON-able.
    """

    tokens: Numbers
    lengths: Numbers
    corrupt: Numbers | None
    answers: tuple[tuple[int, ...], ...]
    wrong: tuple[tuple[int, ...], ...]
    positions: Numbers
    spans: tuple[Mapping[str, tuple[int, int]], ...]
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    texts: tuple[str, ...]
    weights: NDArray[np.floating[Any]]
    dropped: tuple[Dropped, ...]
    provenance: dict[str, object]

    def __post_init__(self) -> None:
        if self.tokens.ndim != 2 or (self.corrupt is not None and self.corrupt.shape != self.tokens.shape):
            raise ValueError("tokens and corrupt must be [prompt, position]")
        parts = (self.lengths, self.answers, self.wrong, self.positions, self.spans, self.ids, self.groups)
        if any(len(part) != len(self.tokens) for part in (*parts, self.texts, self.weights)):
            raise ValueError("everything must be there for every prompt")
        if not np.all((self.positions >= 0) & (self.positions < self.lengths)):
            raise ValueError("positions must lie within their prompts")

    @classmethod
    def read(
        cls,
        path: str | os.PathLike[str],
        model_or_tokenizer: Any,
        *,
        format: str | None = None,
        ids_of: Any = None,
        groups: str | None = None,
        counterfactual: str | None = None,
        **how: Unpack[Tokenising],
    ) -> Prompts:
        """Prompts from a file: our own, or one of another tool (docs/prompts.md lists formats and their traps).

        Args:
            path: the file.
            model_or_tokenizer: whose tokens are wanted.
            format: which kind of file it is; found by its content by default.
            ids_of: the tokenizer (or its name) that token ids in the file belong to; they are decoded and tokenised
                again.
            groups: a column of the file that names each prompt's group.
            counterfactual: which of several twins of the file is taken.
            how: `bos`, `chat`, `first_token`, `twins`; see `selfrepair.prompts.tokenising.Options`.

        Raises:
            SelfRepairError: the file is of no known kind, damaged, or without a prompt that can be used.

        Warns:
            PromptsDropped: some prompts cannot be used.
        """
        from selfrepair.prompts.formats.read import Wishes, prompts_in
        from selfrepair.prompts.making import fields_of

        prompts, facts = prompts_in(path, model_or_tokenizer, format, Wishes(ids_of, groups, counterfactual))
        return cls(**fields_of(prompts, model_or_tokenizer, how, facts))

    @classmethod
    def of(
        cls, prompts: Iterable[Prompt | Mapping[str, Any]], model_or_tokenizer: Any, **how: Unpack[Tokenising]
    ) -> Prompts:
        """Prompts from Python objects.

        Args:
            prompts: as their author has them; or mappings as other tools have them (items of TransformerLens's
                `IOIDataset`, CoAx's dicts, rows of our own files).
            model_or_tokenizer: whose tokens are wanted; None where everything is token ids.
            how: `bos`, `chat`, `first_token`, `twins`; see `selfrepair.prompts.tokenising.Options`.

        Raises:
            SelfRepairError: none can be used.

        Warns:
            PromptsDropped: some cannot be used.
        """
        from selfrepair.prompts.making import fields_of, given

        return cls(**fields_of(given(prompts), model_or_tokenizer, how, {"format": "given prompts"}))

    @classmethod
    def from_pairs(
        cls,
        clean: Any,
        corrupt: Any = None,
        answers: Any = None,
        model_or_tokenizer: Any = None,
        *,
        wrong: Any = None,
        lengths: Sequence[int] | None = None,
        groups: Sequence[str] | None = None,
        **how: Unpack[Tokenising],
    ) -> Prompts:
        """Prompts as notebooks have them: lists of texts, or tensors of token ids.

        Args:
            clean: texts, or token ids [prompt, position].
            corrupt: their twins.
            answers: [prompt, 2], the right and the wrong one, as texts or token ids; [prompt] where there is no wrong
                one or `wrong` is given; None where only the change of the distribution is to be measured.
            model_or_tokenizer: whose tokens are wanted; None where everything is token ids.
            wrong: wrong answers [prompt].
            lengths: real tokens of each row of token ids; all by default.
            groups: of each prompt.
            how: `bos`, `chat`, `first_token`, `twins`; see `selfrepair.prompts.tokenising.Options`.

        Raises:
            SelfRepairError: parts of different length, or no prompt that can be used.

        Warns:
            PromptsDropped: some cannot be used.
        """
        from selfrepair.prompts.making import fields_of, given
        from selfrepair.prompts.pairs import paired

        prompts = paired(clean, corrupt, answers, wrong=wrong, lengths=lengths, groups=groups)
        return cls(**fields_of(given(prompts), model_or_tokenizer, how, {"format": "pairs"}))

    def __len__(self) -> int:
        return len(self.tokens)

    def select(self, indices: Sequence[int] | Numbers | NDArray[np.bool_]) -> Prompts:
        """Some of the prompts, in the order given; the padding stays.

        Args:
            indices: of prompts, or a mask [prompt].

        Raises:
            IndexError: an index is out of range.
        """
        chosen = np.arange(len(self))[np.asarray(indices, dtype=None if len(indices) else np.int64)]
        taken = {
            name: tuple(getattr(self, name)[index] for index in chosen)
            for name in ("answers", "wrong", "spans", "ids", "groups", "texts")
        }
        return replace(
            self,
            tokens=self.tokens[chosen],
            lengths=self.lengths[chosen],
            corrupt=None if self.corrupt is None else self.corrupt[chosen],
            positions=self.positions[chosen],
            weights=self.weights[chosen],
            provenance={**self.provenance, "selected": len(chosen), "selected_from": len(self)},
            **taken,
        )

    def split(self, seed: int = 0) -> tuple[Prompts, Prompts]:
        """Two halves without a group in common; prompts of a single group are split one by one.

        Args:
            seed: of the draw.

        Raises:
            SelfRepairError: there is only one prompt.
        """
        names = self.groups if len(set(self.groups)) > 1 else tuple(map(str, range(len(self))))
        if len(set(names)) < 2:
            raise SelfRepairError("A single prompt cannot be split in two halves.", "Give more prompts.")
        sizes = {name: names.count(name) for name in sorted(set(names))}
        order = [str(name) for name in np.random.default_rng(seed).permutation(list(sizes))]
        halves: tuple[set[str], set[str]] = (set(), set())
        filled = [0, 0]
        for name in sorted(order, key=lambda name: -sizes[name]):  # the largest first; equal ones as drawn
            half = filled.index(min(filled))
            halves[half].add(name)
            filled[half] += sizes[name]
        first, second = ([index for index, name in enumerate(names) if name in half] for half in halves)
        return self.select(first), self.select(second)

    def readout(self) -> LogitDifference:
        """What is measured: the mean logit of right answers, less that of wrong ones where there are some.

        Raises:
            SelfRepairError: prompts without answers, or some with and some without wrong ones.
        """
        if not all(self.answers):
            raise SelfRepairError(
                "These prompts have no answers, so no logit difference can be measured.",
                "Give answers; without them only the change of the whole distribution (KL) can be measured.",
            )
        if any(self.wrong) and not all(self.wrong):
            without = self.ids[[bool(wrong) for wrong in self.wrong].index(False)]
            raise SelfRepairError(
                f"Some prompts have wrong answers, and others (such as {without!r}) have none.",
                "Give wrong answers for every prompt or for none: a logit difference and a logit are not comparable.",
            )
        return LogitDifference(tuple(self.positions.tolist()), self.answers, self.wrong if any(self.wrong) else ())

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of tokens, twins, answers, positions, spans, names, groups and weights; not of padding."""
        digest = hashlib.sha256()
        for index in range(len(self)):
            length = int(self.lengths[index])
            twin = None if self.corrupt is None else self.corrupt[index, :length].tolist()
            spans = sorted((name, *map(int, span)) for name, span in self.spans[index].items())
            row = [self.tokens[index, :length].tolist(), twin, self.answers[index], self.wrong[index], spans]
            names = [self.ids[index], self.groups[index], float(self.weights[index])]
            digest.update(json.dumps([*row, int(self.positions[index]), *names]).encode() + b"\n")
        return digest.hexdigest()

    def table(self) -> pd.DataFrame:
        """One row per prompt: `id, group, text, tokens, position, answers, wrong, twin, weight`."""
        import pandas as pd

        columns = {
            "id": self.ids,
            "group": self.groups,
            "text": self.texts,
            "tokens": self.lengths,
            "position": self.positions,
            "answers": self.answers,
            "wrong": self.wrong,
            "twin": [self.corrupt is not None] * len(self),
            "weight": self.weights,
        }
        return pd.DataFrame(columns)

    def __repr__(self) -> str:
        return f"Prompts({self._summary()})"

    def _repr_html_(self) -> str:
        rows = "".join(f"<li>{html.escape(plain(text))}</li>" for text in self.texts[:5])
        return f"<p><b>Prompts</b> {html.escape(self._summary())}</p><ol>{rows}{'<li>…</li>' * (len(self) > 5)}</ol>"

    def _summary(self) -> str:
        twins = "with twins" if self.corrupt is not None else "without twins"
        source = plain(str(self.provenance.get("file") or self.provenance.get("format") or "Python"))
        return (
            f"{len(self):,} prompts {twins}, {len(set(self.groups)):,} groups, {len(self.dropped):,} dropped; {source}"
        )
