"""Registries of everything that can be chosen by name; nothing is imported before it is chosen."""

from __future__ import annotations

from typing import Any

from selfrepair.registry import Registry

_OPERATORS, _EXECUTORS = "selfrepair.ablation.operators", "selfrepair.run.scheduling.executors"
_PROMPTS = "selfrepair.prompts.formats"
_FILES = "selfrepair.text.files"
_FILTERS, _EXPERIMENTS = "selfrepair.statistics.filters", "selfrepair.paper.experiments"

OPERATORS: Registry[Any] = Registry(
    "ablation operator",
    "selfrepair.operators",
    {
        "resample": f"{_OPERATORS}:Resample",
        "zero": f"{_OPERATORS}:Zero",
        "mean": f"{_OPERATORS}:Mean",
        "position-mean": f"{_OPERATORS}:PositionMean",
        "unchanged": f"{_OPERATORS}:Unchanged",
    },
)
ENGINES: Registry[Any] = Registry(
    "engine",
    "selfrepair.engines",
    {
        "delta": "selfrepair.engine.delta:DeltaEngine",
        "replay": "selfrepair.engine.replay:ReplayEngine",
        "reference": "selfrepair.engine.reference:ReferenceEngine",
    },
    reserved=("auto",),
)
SURROGATES: Registry[Any] = Registry(
    "surrogate",
    "selfrepair.surrogates",
    {
        "own": "selfrepair.engine.surrogates:OwnPosition",
        "low-precision": "selfrepair.engine.surrogates:LowPrecision",
        "gradient": "selfrepair.engine.surrogates:Gradient",
    },
    reserved=("none",),
)
FILTERS: Registry[Any] = Registry(
    "filter",
    "selfrepair.filters",
    {"top": f"{_FILTERS}:top_score", "bottom": f"{_FILTERS}:bottom_score"},
    reserved=("all",),
)
HERE = "processes"  # the executor of this machine, which needs no folder that others see
EXECUTORS: Registry[Any] = Registry(
    "executor",
    "selfrepair.executors",
    {
        HERE: f"{_EXECUTORS}.processes:run_in_processes",
        "ray": f"{_EXECUTORS}.ray:run_on_ray",
        "slurm": f"{_EXECUTORS}.slurm:run_on_slurm",
    },
)
PROMPT_FORMATS: Registry[Any] = Registry(
    "prompt format",
    "selfrepair.prompt_formats",
    {
        "own": f"{_PROMPTS}.own",
        "auto-circuit": f"{_PROMPTS}.auto_circuit",
        "eap-ig": f"{_PROMPTS}.eap_ig",
        "mib": f"{_PROMPTS}.mib",
        "circuit-kit": f"{_PROMPTS}.circuit_kit",
        "coax": f"{_PROMPTS}.coax",
        "causalab": f"{_PROMPTS}.causalab",
        "acdc": f"{_PROMPTS}.acdc",
    },
)
_READERS, _WRITERS = "selfrepair.circuits.readers", "selfrepair.circuits.writers"
CIRCUIT_FORMATS: Registry[Any] = Registry(  # in the order in which files are held against them
    "circuit format",
    "selfrepair.circuit_formats",
    {
        "selfrepair": f"{_READERS}.own:OWN",
        "circuit-tracer": f"{_READERS}.circuit_tracer:CIRCUIT_TRACER",
        "eap": f"{_READERS}.eap:EAP",
        "circuitkit-artifact": f"{_READERS}.circuitkit:ARTIFACT",
        "circuitkit-scores": f"{_READERS}.circuitkit:SCORES",
        "edges": f"{_READERS}.edge_lists:EDGES",
        "roles": f"{_READERS}.roles:ROLES",
    },
)
CIRCUIT_WRITERS: Registry[Any] = Registry(
    "circuit format to write",
    "selfrepair.circuit_writers",
    {
        "selfrepair": f"{_WRITERS}.text_tables:own_json",
        "eap": f"{_WRITERS}.graphs:eap_json",
        "circuitkit": f"{_WRITERS}.graphs:circuitkit_scores",
        "dot": f"{_WRITERS}.text_tables:dot",
        "csv": f"{_WRITERS}.text_tables:csv",
    },
)
EXPERIMENTS: Registry[Any] = Registry(
    "experiment",
    "selfrepair.experiments",
    {
        "overview": f"{_EXPERIMENTS}.overview:exhibits",
        "noise": f"{_EXPERIMENTS}.noise:exhibits",
        "layernorm": f"{_EXPERIMENTS}.norm:exhibits",
        "neurons": f"{_EXPERIMENTS}.neurons:exhibits",
        "iterative": f"{_EXPERIMENTS}.self_gain:exhibits",
        "ioi": f"{_EXPERIMENTS}.name_movers:exhibits",
        "published": f"{_EXPERIMENTS}.published:exhibits",
    },
)
TEXT_FORMATS: Registry[Any] = Registry(
    "text format",
    "selfrepair.text_formats",
    {
        "txt": f"{_FILES}:text_documents",
        **{
            f"{kind}{packed}": f"{_FILES}:json_documents"
            for kind in ("jsonl", "json")
            for packed in ("", ".gz", ".zst")
        },
        "parquet": f"{_FILES}:parquet_documents",
    },
)
_METRICS = "selfrepair.questions.measuring.metrics"
READOUTS: Registry[Any] = Registry(
    "readout",
    "selfrepair.readouts",
    {
        "logit-diff": f"{_METRICS}:LOGIT_DIFFERENCE",
        "log-prob": f"{_METRICS}:LOG_PROBABILITY",
        "prob-diff": f"{_METRICS}:PROBABILITY_DIFFERENCE",
        "kl": f"{_METRICS}:DIVERGENCE",
    },
)
_NOT_OFFERED = ("unchanged",)  # measures the numerical floor; as a run it shows nothing


def operators() -> list[str]:
    """Operators for `--ablation`, those of other packages included."""
    return [name for name in OPERATORS if name not in _NOT_OFFERED]
