"""What a run costs in memory and time as its text grows, and that one that is killed comes out the same.

    python benchmarks/scale.py                                                # everything, some ten minutes
    python benchmarks/scale.py --tokens 20000 --tokens 200000 --kills 0       # memory alone
    python benchmarks/scale.py --no-memory --kill-tokens 20000 --family llama

Models are small and random. Every run has a process of its own, whose peak resident memory is what the system says it
was. Exit code 1 if memory grows by more than a tenth, if a killed run differs from an undisturbed one by a bit, or if
a threshold is not the exact quantile.
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
GROWTH = 1.1  # peak memory at the largest text over that at the smallest

app = typer.Typer(add_completion=False)


class Family(StrEnum):
    """The paper's families."""

    gpt2 = "gpt2"
    neox = "neox"
    llama = "llama"
    opt = "opt"


Tokens = Annotated[list[int], typer.Option(help="Sizes of the text; may be given several times.")]
Families = Annotated[list[Family], typer.Option(help="Models that are killed; may be given several times.")]
Kills = Annotated[int, typer.Option(help="How often each run is killed (SIGKILL) and resumed; 0 for not at all.")]
KillTokens = Annotated[int, typer.Option(help="Size of the text of the runs that are killed.")]


@app.command()
def scale(
    tokens: Tokens = [100_000, 1_000_000],  # noqa: B006
    family: Families = list(Family),  # noqa: B006
    kills: Kills = 5,
    kill_tokens: KillTokens = 200_000,
    memory: bool = True,
    layers: int = 2,
    heads: int = 2,
    seed: int = 0,
) -> None:
    """Run small random models; print peak memory, seconds and tokens per second, then what kills have changed."""
    faults = []
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        if memory:
            faults += memory_faults(place, make_model(place / "model", Family.gpt2, layers, heads), tokens, seed)
        for one in family if kills else ():
            faults += kill_faults(
                place / one, make_model(place / one / "model", one, 3, heads), kill_tokens, kills, seed
            )
    print("FAILS: " + "; ".join(faults) if faults else "all as it has to be")
    raise typer.Exit(bool(faults))


# --------------------------------------------------------------------------------------------------- memory


def memory_faults(place: Path, model: Path, tokens: list[int], seed: int) -> list[str]:
    """Runs on texts of several sizes, from a text file to the results; says what grew too much."""
    stages = ("planned", "survey", "sweep", "peak")
    table = Table("tokens", *(f"{stage} MB" for stage in stages), "seconds", "tokens/s", title="Memory")
    peaks = {}
    for size in sorted(tokens):
        text = write_text(place / f"{size}.jsonl", size, seed)
        told = in_own_process("whole", model, text, size, place / str(size))
        peaks[size] = told["peak"]
        shown = [f"{told[stage]:.0f}" for stage in stages]
        table.add_row(f"{size:,}", *shown, f"{told['seconds']:.0f}", f"{size / told['seconds']:.0f}")
    Console().print(table)
    small, large = min(peaks), max(peaks)
    ratio = peaks[large] / peaks[small]
    print(f"peak at {large:,} tokens over peak at {small:,}: {ratio:.3f}")
    return [f"memory grew {ratio:.2f} times"] if ratio > GROWTH else []


def write_text(path: Path, tokens: int, seed: int) -> Path:
    """Random documents of eight windows each, enough for so many tokens."""
    draws = np.random.default_rng(seed)
    size = LENGTH * WINDOWS_PER_DOCUMENT
    with path.open("w") as file:
        for number in range(max(2, -(-tokens // size))):
            words = " ".join(f"w{word}" for word in draws.integers(3, VOCABULARY, size))
            file.write(json.dumps({"text": f"w{number % VOCABULARY} {words}"}) + "\n")
    return path


@app.command(hidden=True)
def whole(model: str, text: str, tokens: int, out: Path) -> None:
    """One run from its text to its results, in this process; ends with a line of JSON: megabytes after each stage."""
    from selfrepair import load, measure, windows
    from selfrepair.run import measure as measuring
    from selfrepair.run.scheduling import unit_loop

    told = {}

    def marking(function: Any, stage: str) -> Any:
        def call(*given: Any) -> Any:
            told.setdefault(stage, peak())
            return function(*given)

        return call

    measuring.carry_out = marking(measuring.carry_out, "planned")
    unit_loop.merged_survey = marking(unit_loop.merged_survey, "survey")
    measuring.merged = marking(measuring.merged, "sweep")
    started = time.monotonic()
    loaded = load(model, device="cpu")
    measure(loaded, windows(loaded.tokenizer, text, tokens=tokens, length=LENGTH), out=out, progress=False)
    print(json.dumps({**told, "peak": peak(), "seconds": time.monotonic() - started}))


def peak() -> float:
    """Peak resident memory of this process so far, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def in_own_process(verb: str, *given: object) -> dict[str, float]:
    """What a verb of this program tells at its end."""
    command = [sys.executable, __file__, verb, *map(str, given)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return told


# ---------------------------------------------------------------------------------------------------- kills


def kill_faults(place: Path, model: Path, size: int, kills: int, seed: int) -> list[str]:
    """Kills a run of one plan again and again, and leaves another alone; says how they differ."""
    family = place.name
    undisturbed, killed = prepared(place / "undisturbed", model, size, seed), place / "killed"
    killed.mkdir()
    for name in ("plan.json", "windows.parquet"):
        (killed / name).write_bytes((undisturbed / name).read_bytes())
    seconds = in_own_process("resume", undisturbed)["seconds"]
    draws, done, total = random.Random(f"{family} {seed}"), [0], unit_files(undisturbed)
    for left in range(kills, 0, -1):
        process = subprocess.Popen([sys.executable, __file__, "resume", str(killed)], stdout=subprocess.DEVNULL)
        wait_for_work(killed, process, done[-1] + draws.randint(0, (total - 2 - done[-1]) // left))
        time.sleep(draws.uniform(0, seconds / total))
        process.send_signal(signal.SIGKILL)
        if process.wait() != -signal.SIGKILL:
            return [f"{family}: a run ended before it was killed"]
        done.append(unit_files(killed))
    in_own_process("resume", killed)
    differing, inexact = differences(undisturbed, killed), inexact_thresholds(killed)
    print(
        f"{family}: {size:,} tokens, {seconds:.0f} s undisturbed; killed {kills} times, after "
        f"{', '.join(map(str, done[1:]))} of {total} files of units: "
        + ("differs in " + ", ".join(differing) if differing else "the same to the bit")
        + (f"; {inexact} thresholds are not exact" if inexact else "; thresholds are the exact quantiles"),
        flush=True,
    )
    return ([f"{family} differs after kills"] if differing else []) + (
        [f"{family} has inexact thresholds"] if inexact else []
    )


def prepared(place: Path, model: Path, tokens: int, seed: int) -> Path:
    """A folder with a plan and a random text, and nothing done yet."""
    from selfrepair import load, windows
    from selfrepair.run.measure import write_design
    from selfrepair.run.planning.prepare import prepare
    from selfrepair.run.planning.settings import Settings

    place.mkdir(parents=True)
    loaded = load(str(model), device="cpu")
    text = write_text(place.parent / "text.jsonl", tokens, seed)
    job = prepare(
        loaded,
        windows(loaded.tokenizer, str(text), tokens=tokens, length=LENGTH),
        Settings.of(engine="replay", seed=seed),
    )
    write_design(job, place)
    return place


@app.command(hidden=True)
def resume(place: Path) -> None:
    """Goes on with a run, in this process; ends with a line of JSON: seconds."""
    from selfrepair.run import measure

    started = time.monotonic()
    measure.resume(place, progress=False)
    print(json.dumps({"seconds": time.monotonic() - started}))


def unit_files(place: Path) -> int:
    """How many units are finished, of survey, thresholds and sweep."""
    return len(list((place / "units").glob("*.safetensors")))


def wait_for_work(place: Path, process: subprocess.Popen[bytes], files: int) -> None:
    """Returns when a resumed run is at work on a unit and so many are there, or when it has ended."""
    while process.poll() is None and not (
        unit_files(place) >= files
        and any(f": {process.pid}," in content(claim) for claim in (place / "units").glob("*.claim"))
    ):
        time.sleep(0.01)


def content(claim: Path) -> str:
    """What a claim says; nothing where it has just gone."""
    try:
        return claim.read_text()
    except FileNotFoundError:
        return ""


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


def inexact_thresholds(place: Path) -> int:
    """Thresholds that are not what sorting all direct effects of the corpus gives."""
    import xarray as xr
    from safetensors.numpy import load_file

    surveyed = [load_file(path)["direct_effects"] for path in sorted((place / "units").glob("survey-*.safetensors"))]
    effects = np.sort(np.concatenate(surveyed, -1), axis=-1)
    kept = max(1, int(0.02 * effects.shape[-1]))
    with xr.open_dataset(place / "heads.nc") as heads:
        found = {label: heads["threshold"].sel(filter=label).values for label in ("top 2%", "bottom 2%")}
    high, low = (effects[..., place].ravel() for place in (-kept, kept - 1))  # [intervention], as in the file
    wrong = [found["top 2%"] != high, found["bottom 2%"] != low]
    return int(np.sum(wrong))


# ---------------------------------------------------------------------------------------------------- models


def make_model(place: Path, family: Family, layers: int, heads: int) -> Path:
    """A random model with a tokenizer of as many words as it has tokens, saved where `load` finds it."""
    import torch
    import transformers as hf
    from tokenizers import Tokenizer, models, pre_tokenizers

    hf.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    width = 16 * heads
    common = {"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2}
    sizes = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads, **common}
    positions = {"max_position_embeddings": LENGTH}
    if family is Family.gpt2:
        config: Any = hf.GPT2Config(n_embd=width, n_layer=layers, n_head=heads, n_positions=LENGTH, **common)
    elif family is Family.neox:
        config = hf.GPTNeoXConfig(**sizes, intermediate_size=4 * width, **positions)
    elif family is Family.llama:
        config = hf.LlamaConfig(**sizes, intermediate_size=4 * width, **positions)
    else:
        config = hf.OPTConfig(**sizes, ffn_dim=4 * width, word_embed_proj_dim=width, **positions)
    network = hf.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    network.save_pretrained(place)
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCABULARY)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    hf.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0").save_pretrained(place)
    return place


if __name__ == "__main__":
    os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_PROGRESS_BARS="1", TRANSFORMERS_VERBOSITY="error")
    arguments = sys.argv[1:]
    sys.argv[1:] = arguments if arguments[:1] in (["whole"], ["resume"]) else ["scale", *arguments]
    app()
