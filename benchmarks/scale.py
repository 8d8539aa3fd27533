"""What a run costs in memory and time as its text grows, and that one that is killed comes out the same.

    python benchmarks/scale.py                                   # 100,000 and 1,000,000 tokens
    python benchmarks/scale.py --tokens 20000 --tokens 200000 --kills 5 --family llama

Every run has a process of its own, whose peak resident memory is what the system says it was.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

VOCABULARY = 97
LENGTH = 128
WINDOWS_PER_DOCUMENT = 8

app = typer.Typer(add_completion=False)


class Family(StrEnum):
    """The paper's families."""

    gpt2 = "gpt2"
    neox = "neox"
    llama = "llama"


Tokens = Annotated[list[int], typer.Option(help="Sizes of the text; may be given several times.")]
Kills = Annotated[int, typer.Option(help="How often the smallest run is also killed (SIGKILL) and resumed.")]


@app.command()
def scale(
    tokens: Tokens = [100_000, 1_000_000],  # noqa: B006
    family: Family = Family.gpt2,
    layers: int = 2,
    heads: int = 2,
    kills: Kills = 0,
    seed: int = 0,
) -> None:
    """Run a small random model on texts of several sizes; print peak memory, seconds, tokens per second."""
    table = Table("tokens", "survey MB", "sweep MB", "merged MB", "peak MB", "seconds", "tokens/s")
    with tempfile.TemporaryDirectory() as temporary:
        model = make_model(Path(temporary) / "model", family, layers, heads)
        peaks = {}
        for size in sorted(tokens):
            place = prepared(Path(temporary) / str(size), model, size, seed)
            told = finish(place)
            peaks[size] = told["peak"]
            stages = [f"{told[stage]:.0f}" for stage in ("survey", "sweep", "merged", "peak")]
            table.add_row(f"{size:,}", *stages, f"{told['seconds']:.0f}", f"{size / told['seconds']:.0f}")
        Console().print(table)
        print(f"peak at {max(peaks):,} tokens over peak at {min(peaks):,}: {peaks[max(peaks)] / peaks[min(peaks)]:.3f}")
        if kills:
            kill_and_compare(Path(temporary), min(tokens), kills, told["seconds"] * min(tokens) / max(tokens), seed)


def kill_and_compare(temporary: Path, size: int, kills: int, seconds: float, seed: int) -> None:
    """Kills a run of the same plan again and again; exits with 1 if what comes out is not the same to the bit."""
    undisturbed, killed = temporary / str(size), temporary / "killed"
    killed.mkdir()
    for name in ("plan.json", "windows.parquet"):
        (killed / name).write_bytes((undisturbed / name).read_bytes())
    draws = random.Random(seed)
    for _ in range(kills):
        process = subprocess.Popen([sys.executable, __file__, "resume", str(killed)], stdout=subprocess.DEVNULL)
        started = wait_for_work(killed, process)
        time.sleep(draws.uniform(0, seconds / kills))
        process.send_signal(signal.SIGKILL)
        process.wait()
        done = len(list((killed / "units").glob("s*.safetensors")))
        print(f"killed {time.monotonic() - started:.1f} s after it began to work; {done} files of units")
    finish(killed)
    differing = differences(undisturbed, killed)
    print("differs: " + ", ".join(differing) if differing else f"killed {kills} times: the same to the bit")
    if differing:
        raise typer.Exit(1)


def wait_for_work(place: Path, process: subprocess.Popen[bytes]) -> float:
    """Returns when a resumed run has loaded its model and claimed a unit, or has ended."""
    while process.poll() is None and not any(
        str(process.pid) in claim.read_text() for claim in (place / "units").glob("*.claim") if claim.exists()
    ):
        time.sleep(0.01)
    return time.monotonic()


def differences(left: Path, right: Path) -> list[str]:
    """Names of results that are not the same to the bit."""
    import xarray as xr

    differing = []
    with xr.open_dataset(left / "heads.nc") as first, xr.open_dataset(right / "heads.nc") as second:
        for name in sorted({*first.variables, *second.variables}):
            one, other = first[name].values, second[name].values
            same = one.tolist() == other.tolist() if one.dtype.kind in "OU" else one.tobytes() == other.tobytes()
            differing += [] if same else [str(name)]
    same = (left / "tokens.parquet").read_bytes() == (right / "tokens.parquet").read_bytes()
    return differing + ([] if same else ["tokens.parquet"])


def make_model(place: Path, family: Family, layers: int, heads: int) -> Path:
    """A random model with a tokenizer of as many words as it has tokens, saved where `load` finds it."""
    import torch
    import transformers as hf
    from tokenizers import Tokenizer, models

    torch.manual_seed(0)
    width = 16 * heads
    common = {"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2}
    sizes = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads}
    if family is Family.gpt2:
        network: Any = hf.GPT2LMHeadModel(
            hf.GPT2Config(n_embd=width, n_layer=layers, n_head=heads, n_positions=LENGTH, **common)
        )
    elif family is Family.neox:
        network = hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**sizes, intermediate_size=4 * width, **common))
    else:
        network = hf.LlamaForCausalLM(hf.LlamaConfig(**sizes, intermediate_size=4 * width, **common))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    network.save_pretrained(place)
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCABULARY)}, unk_token="w0"))
    hf.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0").save_pretrained(place)
    return place


def prepared(place: Path, model: Path, tokens: int, seed: int) -> Path:
    """A folder with a plan and a random text, and nothing done yet."""
    from selfrepair import Windows, load
    from selfrepair.run.measure import write_design
    from selfrepair.run.prepare import prepare
    from selfrepair.statistics.filters import DEFAULT_FILTERS

    windows = max(2 * WINDOWS_PER_DOCUMENT, -(-tokens // LENGTH))
    owners = np.arange(windows) // WINDOWS_PER_DOCUMENT
    text = Windows(
        tokens=np.random.default_rng(seed).integers(3, VOCABULARY, (windows, LENGTH)),
        lengths=np.full(windows, LENGTH),
        documents=np.repeat(owners[:, None], LENGTH, 1),
        names=tuple(f"document {i}" for i in range(owners.max() + 1)),
        provenance={"source": "random", "seed": seed},
    )
    place.mkdir(parents=True)
    job = prepare(
        load(str(model), device="cpu"),
        text,
        ablation="resample",
        donors=1,
        filters=DEFAULT_FILTERS,
        engine="replay",
        components="heads",
        heads=None,
        batch=None,
        memory=None,
        seed=seed,
        first=1,
        sample=64,
        replicates=400,
    )
    write_design(job, place)
    return place


def finish(place: Path) -> dict[str, float]:
    """Resumes a run in a process of its own, which tells what it took."""
    done = subprocess.run(
        [sys.executable, __file__, "resume", str(place)], stdout=subprocess.PIPE, check=True, env={**os.environ}
    )
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return told


@app.command(hidden=True)
def resume(place: Path) -> None:
    """One run, in this process; ends with a line of JSON: megabytes at the end of each stage, seconds."""
    from selfrepair.results import folder
    from selfrepair.run import measure, runner

    told = {}
    sweeping = runner.merged_survey

    def surveyed(*given: Any) -> Any:
        told.setdefault("survey", peak())
        return sweeping(*given)

    def merged(*given: Any) -> Any:
        told["sweep"] = peak()
        return merging(*given)

    def written(*given: Any) -> Any:
        told["merged"] = peak()
        return writing(*given)

    merging, writing = measure.merged, folder.write
    runner.merged_survey, measure.merged, folder.write = surveyed, merged, written
    started = time.monotonic()
    measure.resume(place, progress=False)
    print(json.dumps({**told, "peak": peak(), "seconds": time.monotonic() - started}))


def peak() -> float:
    """Peak resident memory of this process so far, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    sys.argv[1:] = arguments if arguments[:1] in (["scale"], ["resume"]) else ["scale", *arguments]
    app()
