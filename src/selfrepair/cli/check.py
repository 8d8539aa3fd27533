"""`selfrepair check`: find a model's parts and prove the identities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from selfrepair.terminal import Console

if TYPE_CHECKING:
    from selfrepair.errors import Proof, RefusedModel
    from selfrepair.model.anatomy import Anatomy
    from selfrepair.model.language_model import LanguageModel

_HOLDS, _FAILS = Text("holds", "green"), Text("FAILS", "bold red")


def check(
    model: Annotated[str, typer.Argument(help="Hub id, folder with safetensors, GGUF file, or `default`.")] = "default",
    dtype: Annotated[str, typer.Option(help="float32, or float64 to separate rounding from errors.")] = "float32",
    device: Annotated[str, typer.Option(help="`auto`, `cpu`, `cuda`, ...")] = "auto",
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub model.")] = None,
    offload: Annotated[
        bool, typer.Option("--offload", help="Keep weights on disk, for models larger than memory.")
    ] = False,
) -> None:
    """Find a model's parts and prove the identities that every number rests on.

    If one fails, ends with exit code 1 and names it: such a model would be measured wrongly.
    """
    from selfrepair.cli.silence_libraries import quieten

    quieten()
    from selfrepair.engine.ablation_proofs import prove
    from selfrepair.errors import RefusedModel
    from selfrepair.model.load import load
    from selfrepair.model.proofs import require

    console = Console()
    try:
        loaded = load(model, dtype=dtype, device=device, revision=revision, offload=offload)
    except RefusedModel as refused:
        _print_refusal(console, refused)
        raise
    console.print(repr(loaded), style="bold")
    console.print(_parts(loaded))
    proofs = prove(loaded)
    _print_proofs(console, proofs)
    require(proofs)


def _print_proofs(console: Console, proofs: Sequence[Proof]) -> None:
    table = _table()
    for proof in proofs:
        mark = _HOLDS if proof.holds else _FAILS
        table.add_row(proof.identity, proof.statement, f"{proof.error:.1e}", f"{proof.tolerance:.0e}", mark)
    console.print(table)
    note = "Errors are relative to the largest entry compared; for own forwards and blocks, at each position."
    console.print(note, style="dim")


def _print_refusal(console: Console, refused: RefusedModel) -> None:
    """What is known of a model refused at load: some identities, or the part that was not found."""
    if refused.proofs:
        _print_proofs(console, refused.proofs)
    else:
        table = _table()
        table.add_row(refused.identity, refused.reason, "", "", _FAILS)
        console.print(table)
    console.print("The identities of ablated runs, which depend on these, were not tried.", style="dim")


def _table() -> Table:
    return Table("identity", "statement", "error", "allowed", "", title="Identities, on random tokens")


def _parts(loaded: LanguageModel) -> str:
    from selfrepair.model.vocabulary_rows import centring_in_words

    anatomy = loaded.anatomy
    names = {module: name for name, module in loaded.network.named_modules()}
    norm = "LayerNorm" if anatomy.final_norm.centred else "RMSNorm"
    lines = [
        *_heads(anatomy, names),
        *_not_plain(loaded),
        *_mixers(loaded, names),
        *([] if anatomy.alone else ["layers share more than the stream: all of them run for every ablation"]),
        f"final norm {names[anatomy.final_norm_module]} ({norm}, eps {anatomy.final_norm.eps:g}), "
        f"vocabulary {anatomy.unembedding.weight.shape[0]}"
        + (f", logits x {anatomy.unembedding.multiplier:g}" if anatomy.unembedding.multiplier != 1 else "")
        + (f", capped at {anatomy.unembedding.softcap:g}" if anatomy.unembedding.softcap else ""),
        centring_in_words(loaded.vocabulary),
        *_text_alone(loaded),
        f"weights sha256 {loaded.digest[:16]}; {loaded.weights}",
    ]
    return "\n".join(lines)


def _heads(anatomy: Anatomy, names: Mapping[object, str]) -> list[str]:
    """Sizes, and what the first layer that has heads, or the first of all, reads and writes."""
    block = anatomy.blocks[anatomy.layers_with_heads[0] if anatomy.heads else 0]
    sizes = f"blocks: {anatomy.layers}, width {anatomy.width}, {anatomy.heads_in_words} heads"
    writes = [f"MLP writes {names[module]} x {multiplier:g}" for module, multiplier in block.mlps]
    if not block.heads:
        return [sizes, *([", ".join(writes)] if writes else [])]
    writes.insert(0, f"attention writes {names[block.attention_write]} x {block.attention_multiplier:g}")
    return [
        f"{sizes} of {block.head_dim}" + (", MLP parallel to attention" if block.parallel else ""),
        f"heads read at the input of {names[block.projection]}",
        ", ".join(writes),
    ]


def _text_alone(loaded: LanguageModel) -> list[str]:
    """A note on models that read more than text."""
    config = loaded.network.config
    whole = config.get_text_config() is config
    return [] if whole else ["text alone is measured: what reads images or sound takes no part, and none can be given"]


def _mixers(loaded: LanguageModel, names: Mapping[object, str]) -> list[str]:
    """Notes on mixers, layers without heads, and scaled blocks."""
    blocks = list(enumerate(loaded.anatomy.blocks))
    mixers = [f"layer {layer}: {names[block.mixer_write]}" for layer, block in blocks if block.has_mixer]
    bare = [str(layer) for layer, block in blocks if not block.heads and not block.has_mixer]
    scaled = [f"{block.stream_multiplier:g}" for _, block in blocks if block.stream_multiplier != 1]
    said = []
    if mixers:
        said.append(f"mixers, on a line of their own: {', '.join(mixers)}")
    if bare:
        said.append(f"layers of an MLP alone: {', '.join(bare)}")
    if any(block.gains is not None for _, block in blocks):
        said.append("blocks multiply the stream and what they add by dimension")
    if scaled:
        said.append(f"blocks multiply the stream with {', '.join(scaled)}")
    return said


def _not_plain(loaded: LanguageModel) -> list[str]:
    """Notes on heads whose outputs are not plain weighted means of values."""
    layers = [str(layer) for layer, block in enumerate(loaded.anatomy.blocks) if not block.plain_means]
    if not layers:
        return []
    where = "in all layers" if len(layers) == loaded.anatomy.layers else f"in layers {', '.join(layers)}"
    return [
        f"{where} heads are no plain means of values (attention sinks, gated outputs, a norm over all heads): no part "
        "of their outputs is a constant of the layer, and zero ablation replaces all of it"
    ]
