"""Answers as ordinary files: every run's ledgers as netCDF, tables as Parquet, the answer as JSON."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from selfrepair.questions.circuit.audit import CircuitAudit
from selfrepair.questions.covering.who import Covering
from selfrepair.questions.importance import ImportanceCard
from selfrepair.questions.interplay.interplay import Interplay
from selfrepair.questions.interplay.recruitment import Recruitment
from selfrepair.questions.measuring.metrics import metric_named
from selfrepair.questions.measuring.prompt_effects import PromptEffects
from selfrepair.questions.question import Question
from selfrepair.questions.tables.records import (
    Record,
    ablated_record,
    about,
    audit_record,
    card_record,
    covering_record,
    interplay_record,
    recruitment_record,
)
from selfrepair.results.atomic_files import make_folder, put

_QUANTITIES = {
    "total_effect": "change of the readout",
    "lost": "what the replaced sites no longer write, DE - DE'",
    "post_norms": "what norms behind attention did",
    "norm": "what the final norm's scale did",
    "curvature": "what a metric that is not linear in the logits changed by beyond its gradient",
}


def dataset(effects: PromptEffects, question: Question, floor: float | None = None) -> xr.Dataset:
    """Every run's ledger on every prompt: dimensions row, prompt, layer, head, and write, the modules that write
    for an MLP (one in most models); logits."""
    runs, prompts = effects.interventions, effects.prompts
    made = xr.Dataset(
        {
            "clean": ("prompt", effects.clean, {"long_name": "readout with nothing ablated"}),
            **{
                name: (("row", "prompt"), getattr(effects, name), {"long_name": text})
                for name, text in _QUANTITIES.items()
            },
            "line_head": (("row", "prompt", "layer", "head"), effects.heads, {"long_name": "change in direct effect"}),
            "line_mixer": (("row", "prompt", "layer"), effects.mixers, {"long_name": "change in direct effect"}),
            "line_mlp": (("row", "prompt", "layer", "write"), effects.mlps, {"long_name": "change in direct effect"}),
            "direct_head": (("prompt", "layer", "head"), effects.direct_heads, {"long_name": "clean direct effect"}),
            "direct_mixer": (("prompt", "layer"), effects.direct_mixers, {"long_name": "clean direct effect"}),
            "direct_mlp": (("prompt", "layer", "write"), effects.direct_mlps, {"long_name": "clean direct effect"}),
        },
        coords={
            "row": [run.name for run in runs],
            "replaced": ("row", [" ".join(map(str, run.replaced)) for run in runs]),
            "frozen": ("row", [" ".join(map(str, run.frozen)) for run in runs]),
            "prompt": list(prompts.ids),
            "group": ("prompt", list(prompts.groups)),
            "layer": np.arange(effects.mlps.shape[2]),
            "head": np.arange(effects.heads.shape[3]),
        },
    )
    for variable in made.data_vars.values():
        variable.attrs["units"] = metric_named(question.settings.metric).units
    facts = about(question, effects, floor)
    made.attrs = {
        name: value if isinstance(value, str | float) else json.dumps(value, default=str)
        for name, value in facts.items()
    }
    return made


def save_effects(
    effects: PromptEffects, question: Question, floor: float | None, folder: Path, table: pd.DataFrame
) -> None:
    """Writes `runs.nc`, `runs.parquet` and `answer.json`."""
    _save(folder, effects, question, floor, {"runs": table}, ablated_record(question, effects, table, floor))


def save_covering(found: Covering, question: Question, floor: float | None, folder: Path) -> None:
    """Writes `runs.nc`, `components.parquet` and `answer.json`."""
    _save(folder, found.effects, question, floor, {"components": found.table}, covering_record(question, found, floor))


def save_card(found: ImportanceCard, question: Question, floor: float | None, folder: Path) -> None:
    """Writes `runs.nc`, `components.parquet` and `answer.json`."""
    _save(folder, found.effects, question, floor, {"components": found.table}, card_record(question, found, floor))


def save_interplay(found: Interplay, question: Question, floor: float | None, folder: Path) -> None:
    """Writes `runs.nc`, `pairs.parquet`, `curves.parquet`, `shapley.parquet` if there are values, and `answer.json`."""
    tables = {"pairs": found.pairs, "curves": found.curves}
    if found.shapley is not None:
        tables["shapley"] = found.shapley
    _save(folder, found.effects, question, floor, tables, interplay_record(question, found, floor))


def save_recruitment(found: Recruitment, question: Question, floor: float | None, folder: Path) -> None:
    """Writes `runs.nc`, `components.parquet` and `answer.json`."""
    record = recruitment_record(question, found, floor)
    _save(folder, found.effects, question, floor, {"components": found.table}, record)


def save_audit(found: CircuitAudit, question: Question, floor: float | None, folder: Path) -> None:
    """Writes `runs.nc`, a Parquet file per table, and `answer.json`."""
    tables = {
        "components": found.covering.table,
        "missing": found.missing,
        "members": found.members,
        "completion": found.completion,
        "ablations": found.operators.table,
    }
    _save(folder, found.effects, question, floor, tables, audit_record(question, found, floor))


def _save(
    folder: Path,
    effects: PromptEffects,
    question: Question,
    floor: float | None,
    tables: dict[str, pd.DataFrame],
    record: Record,
) -> None:
    make_folder(folder)
    runs = dataset(effects, question, floor)
    content = runs.to_netcdf(engine="h5netcdf", encoding={name: {"zlib": True} for name in runs.data_vars})
    put(folder / "runs.nc", content)
    for name, table in tables.items():
        stream = io.BytesIO()
        table.to_parquet(stream, index=False)
        put(folder / f"{name}.parquet", stream.getvalue())
    put(folder / "answer.json", json.dumps(record, indent=2, default=str).encode())
