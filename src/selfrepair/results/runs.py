"""A run as an object: what `measure` returns and `load_run` reads back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa
import xarray as xr

from selfrepair.results.extras import Extras
from selfrepair.results.intervention_axis import AXIS, by_layer_and_head, of_heads, require_heads
from selfrepair.results.plan import Plan
from selfrepair.results.proven import Stored
from selfrepair.results.stored_tables import read_tokens, read_windows, token_batches
from selfrepair.results.windows_file import windows_of
from selfrepair.text import Windows

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False)
class Run:
    """One measurement: estimates per filter and intervention, kept tokens, windows, plan and outcome.

    Example:
        >>> run.filters
        ['all', 'top 2%', 'bottom 2%']
        >>> run.heads["self_repair"].sel(filter="all").dims
        ('layer', 'head')
        >>> len(run.table("all", layers="L1"))
        2

    Args:
        plan: everything needed to repeat the run; JSON-able.
        outcome: the run's own findings: status, seconds, loss, floor, residual; JSON-able.
        interventions: means per (filter, intervention), as stored, see `results.schema`; attributes hold units and
            formulas. The axis has the coordinates `layer`, `head`, `kind` and `name`; the heads of the model that were
            not ablated have a `count` of zero.
        kept: the table of kept tokens, or the file that holds it, with its digests.
        corpus: the table of windows, or the file that holds it, likewise.
        extras: texts of tokens, whole passages and close-ups of single tokens, where the run kept them.
    """

    plan: Plan
    outcome: dict[str, Any]
    interventions: xr.Dataset
    kept: pa.Table | Stored
    corpus: pa.Table | Stored
    extras: Extras = field(default_factory=Extras)

    @cached_property
    def tokens(self) -> pa.Table:
        """Kept (head, token) rows; read from the run's folder when first asked for.

        Raises:
            SelfRepairError: the file is gone or damaged.
        """
        return read_tokens(self.kept) if isinstance(self.kept, Stored) else self.kept

    @cached_property
    def windows(self) -> pa.Table:
        """One row per window: `window, document, length, tokens, donors`; read when first asked for.

        Raises:
            SelfRepairError: the file is gone or damaged.
        """
        return read_windows(self.corpus) if isinstance(self.corpus, Stored) else self.corpus

    @property
    def text(self) -> Windows:
        """The windows that were measured, as `measure` takes them."""
        return windows_of(self.windows)[0]

    @property
    def filters(self) -> list[str]:
        """Labels of the filters, in order."""
        return [str(label) for label in self.interventions["filter"].values]

    @cached_property
    def heads(self) -> xr.Dataset:
        """The same numbers per (filter, layer, head), where every intervention is one head.

        Raises:
            SelfRepairError: the run ablated something else.
        """
        require_heads(self.interventions, "Run.heads")
        return self.grid

    @cached_property
    def grid(self) -> xr.Dataset:
        """The same numbers per (filter, layer, head) as kept tokens name them: of other interventions than single
        heads, `head` is the place among those that start in the layer."""
        return by_layer_and_head(self.interventions)

    @cached_property
    def of_heads(self) -> bool:
        """Whether each intervention is the ablation of one head, so that there are `heads`."""
        return of_heads(self.interventions)

    @property
    def heads_there_are(self) -> int:
        """How many heads the model has, all layers together; of other interventions, how many were asked for."""
        return int(self.interventions.sizes[AXIS])

    def tokens_frame(self) -> pd.DataFrame:
        """The kept tokens as a pandas frame."""
        return cast("pd.DataFrame", self.tokens.to_pandas())

    def token_batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Columns of the kept tokens, some rows at a time: a run may have kept more than fits in memory.

        Raises:
            SelfRepairError: the file is gone or damaged.
        """
        if isinstance(self.kept, Stored):
            yield from token_batches(self.kept, columns)
        else:
            yield from self.kept.select(list(columns)).to_batches()

    def save(self, folder: str | Path) -> Path:
        """Write the results folder: `plan.json`, `windows.parquet`, `outcome.json`, `tokens.parquet`, `heads.nc`.

        Raises:
            SelfRepairError: the folder holds something already, the disk is full, or it cannot be written to.
        """
        from selfrepair.results.run_folder import prepare_folder, write_run

        return write_run(self, prepare_folder(folder))

    def table(
        self,
        filter: str | None = None,
        sort: str = "direct_effect",
        descending: bool = True,
        top: int | None = 20,
        layers: Sequence[int | str] | str | None = None,
    ) -> pd.DataFrame:
        """Heads as a pandas frame, sorted and cut as asked; see `report.run_tables.head_table`.

        Raises:
            SelfRepairError: unknown filter or column.
        """
        import pandas as pd

        from selfrepair.report.run_tables import head_table

        return pd.DataFrame(head_table(self, filter, sort, descending, top, layers))

    def card(self, filter: str | None = None) -> pd.DataFrame:
        """Shares of what heads lose that are repaired, of the model and its layers; see `report.model_card.card_table`.

        Raises:
            SelfRepairError: unknown filter.
        """
        import pandas as pd

        from selfrepair.report.model_card import card_table

        return pd.DataFrame(card_table(self, filter))

    def plot_overview(self, filter: str | None = None, path: str | Path | None = None) -> Figure:
        """Self-repair of every head against relative depth (the paper's Figure 1); saved if `path` is given.

        Raises:
            SelfRepairError: unknown filter, or matplotlib is missing.
        """
        from selfrepair.report.run_figures import overview_figure

        return overview_figure(self, filter, path)

    def plot_direct_effects(self, filter: str | None = "all", path: str | Path | None = None) -> Figure:
        """Direct effect against total effect of every head (the paper's Figure 2); saved if `path` is given.

        Raises:
            SelfRepairError: unknown filter, or matplotlib is missing.
        """
        from selfrepair.report.run_figures import direct_effects_figure

        return direct_effects_figure(self, filter, path)

    def __repr__(self) -> str:
        from selfrepair.report.brief import as_text

        return as_text(self)

    def _repr_html_(self) -> str:
        from selfrepair.report.brief import as_html

        return as_html(self)
