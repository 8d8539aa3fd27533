"""Quantised checkpoints, written entry by entry as each format defines it; with the matrices that they stand for.

Nothing here is shared with what reads them.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
import transformers as hf
from safetensors.torch import save_file

from loading import tiny_models

GROUP = 32
NF4 = [-1.0, -0.7, -0.5, -0.4, -0.3, -0.2, -0.1, 0.0, 0.08, 0.16, 0.25, 0.34, 0.44, 0.56, 0.72, 1.0]
E2M1 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]


def llama():
    """A Llama whose matrices have sizes that all formats can pack; no two sizes are alike."""
    torch.manual_seed(3)
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2}
    more = {"head_dim": 24, "vocab_size": 97, "num_hidden_layers": 2, "max_position_embeddings": 64}
    return hf.LlamaForCausalLM(hf.LlamaConfig(**sizes, **more)).float().eval()


def checkpoint(network, quantise, settings, folder: Path) -> Path:
    """A folder with the matrices of all blocks quantised; the network's own become what these stand for.

    Args:
        network: changed in place.
        quantise: from a matrix to the tensors by the end of their names, and the matrix that they stand for.
        settings: the checkpoint's `quantization_config`.
        folder: is made.
    """
    network.save_pretrained(folder)
    tiny_models.tokenizer().save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": settings}))
    stored = {}
    for name, value in network.state_dict().items():
        if value.ndim == 2 and ".layers." in name:
            parts, dense = quantise(value)
            assert 0.001 < (dense - value).norm() / value.norm() < 0.5, "coarse, but the same matrix"
            value.copy_(dense)
            stored |= {name.removesuffix(".weight") + end: part.contiguous() for end, part in parts.items()}
        else:
            stored[name] = value.clone()
    save_file(stored, folder / "model.safetensors", {"format": "pt"})
    return folder


def words(numbers, bits, dim):
    """Packs unsigned numbers [rows, columns] into int32 words along a dimension, the lowest bits first."""
    many, rows = 32 // bits, numbers.movedim(dim, -1).tolist()
    packed = [
        [sum(row[start + i] << bits * i for i in range(many)) for start in range(0, len(row), many)] for row in rows
    ]
    signed = [[word - 2**32 if word >= 2**31 else word for word in row] for row in packed]
    return torch.tensor(signed, dtype=torch.int32).movedim(-1, dim)


def rounded(matrix, bits, group):
    """Groups of columns of a matrix as unsigned integers, with scales and zeros: [out, in], [out, groups] twice."""
    grouped = matrix.unflatten(1, (-1, group))
    low, high = grouped.amin(-1).clamp(max=-1e-3), grouped.amax(-1).clamp(min=1e-3)
    scales = ((high - low) / (2**bits - 1)).half().float()
    zeros = (-low / scales).round().clamp(1, 2**bits - 2).int()
    numbers = (grouped / scales[..., None]).round() + zeros[..., None]
    return numbers.clamp(0, 2**bits - 1).int().flatten(1), scales, zeros


def entrywise(numbers, scales, zeros, group_of):
    """(number - zero) * scale of its group, entry by entry."""
    rows = [
        [(q - zeros[i][group_of[j]]) * scales[i][group_of[j]] for j, q in enumerate(row)]
        for i, row in enumerate(numbers.tolist())
    ]
    return torch.tensor(rows)


def gptq(bits, ordered=True, v2=False):
    def quantise(matrix):
        numbers, scales, zeros = rounded(matrix, bits, GROUP)
        group_of = [column // GROUP for column in range(matrix.shape[1])]
        if not ordered:  # as with desc_act: columns of a group lie anywhere
            draws = torch.Generator().manual_seed(1)
            order = torch.randperm(matrix.shape[1], generator=draws)
            numbers, scales, zeros = rounded(matrix[:, order], bits, GROUP)
            numbers = numbers[:, torch.argsort(order)]
            group_of = [group_of[place] for place in torch.argsort(order).tolist()]
        stored = zeros if v2 else zeros - 1
        parts = {
            ".qweight": words(numbers.T, bits, 0),
            ".qzeros": words(stored.T, bits, 1),
            ".scales": scales.T.half(),
            ".g_idx": torch.tensor(group_of, dtype=torch.int32),
        }
        return parts, entrywise(numbers, scales.tolist(), zeros.tolist(), group_of)

    return quantise


def awq(matrix):
    """In each word, columns 0 to 7 lie in the order 0, 2, 4, 6, 1, 3, 5, 7 of nibbles."""
    numbers, scales, zeros = rounded(matrix, 4, GROUP)
    order = torch.tensor([0, 2, 4, 6, 1, 3, 5, 7])
    shuffled = lambda table: table.unflatten(1, (-1, 8))[..., order].flatten(1)  # noqa: E731
    parts = {
        ".qweight": words(shuffled(numbers.T), 4, 1),
        ".qzeros": words(shuffled(zeros.T), 4, 1),
        ".scales": scales.T.half(),
    }
    return parts, entrywise(numbers, scales.tolist(), zeros.tolist(), [j // GROUP for j in range(matrix.shape[1])])


def fp8(block, kind=torch.float8_e4m3fn, name=".weight_scale_inv"):
    """Blocks of rows and columns; the last ones may be smaller."""

    def quantise(matrix):
        blocks = [math.ceil(size / of) for size, of in zip(matrix.shape, block, strict=True)]
        scales, stored, dense = torch.zeros(blocks), torch.zeros(matrix.shape, dtype=kind), torch.zeros(matrix.shape)
        for i in range(blocks[0]):
            for j in range(blocks[1]):
                at = (slice(i * block[0], (i + 1) * block[0]), slice(j * block[1], (j + 1) * block[1]))
                scales[i, j] = matrix[at].abs().max() / 400
                stored[at] = (matrix[at] / scales[i, j]).to(kind)
                dense[at] = stored[at].float() * scales[i, j]
        return {".weight": stored, name: scales}, dense

    return quantise


def scaled_rows(kind, name):
    """One number in a byte and a scale for each row."""

    def quantise(matrix):
        scales = (matrix.abs().amax(1, keepdim=True) / 120).bfloat16()
        stored = (
            (matrix / scales.float()).round().to(kind) if kind == torch.int8 else (matrix / scales.float()).to(kind)
        )
        return {".weight": stored, name: scales}, stored.float() * scales.float()

    return quantise


def int8_rows(matrix):
    """bitsandbytes: the largest entry of a row is 127."""
    largest = matrix.abs().amax(1)
    stored = (matrix / largest[:, None] * 127).round().to(torch.int8)
    return {".weight": stored, ".SCB": largest, ".weight_format": torch.tensor(0, dtype=torch.uint8)}, (
        stored.float() * largest[:, None] / 127
    )


def nf4(nested):
    """bitsandbytes: 64 numbers share their largest; with `nested`, 256 of these are bytes of a table of their own."""

    def quantise(matrix):
        table = torch.tensor(NF4)
        flat = matrix.flatten().unflatten(0, (-1, 64))
        largest = flat.abs().amax(1)
        facts = {"blocksize": 64, "shape": list(matrix.shape), "dtype": "float32", "quant_type": "nf4"}
        parts = {".weight.quant_map": table}
        if nested:
            offset = float(largest.mean())
            second = torch.linspace(-1, 1, 256)
            wide = torch.stack([(largest - offset)[i : i + 256].abs().max() for i in range(0, len(largest), 256)])
            each = torch.tensor([wide[i // 256] for i in range(len(largest))])
            codes = ((largest - offset) / each)[:, None].sub(second).abs().argmin(1)
            parts |= {".weight.absmax": codes.to(torch.uint8), ".weight.nested_absmax": wide}
            parts |= {".weight.nested_quant_map": second}
            facts |= {"nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": offset}
            largest = second[codes] * each + offset
        else:
            parts[".weight.absmax"] = largest
        codes = (flat / largest[:, None])[..., None].sub(table).abs().argmin(-1)
        pairs = codes.flatten().unflatten(0, (-1, 2))
        parts[".weight"] = (pairs[:, 0] * 16 + pairs[:, 1]).to(torch.uint8)[:, None]
        state = torch.tensor(list(json.dumps(facts).encode()), dtype=torch.uint8)
        return parts | {".weight.quant_state.bitsandbytes__nf4": state}, (
            (table[codes] * largest[:, None]).reshape(matrix.shape)
        )

    return quantise


def packed(bits, zeros):
    """compressed-tensors: signed integers, stored as unsigned ones."""

    def quantise(matrix):
        half = 2 ** (bits - 1)
        if zeros:
            numbers, scales, middle = rounded(matrix, bits, GROUP)
        else:
            grouped = matrix.unflatten(1, (-1, GROUP))
            scales = (grouped.abs().amax(-1) / (half - 1)).half().float()
            numbers = ((grouped / scales[..., None]).round() + half).clamp(0, 2 * half - 1).int().flatten(1)
            middle = torch.full(scales.shape, half)
        parts = {
            ".weight_packed": words(numbers, bits, 1),
            ".weight_scale": scales.half(),
            ".weight_shape": torch.tensor(matrix.shape),
        }
        if zeros:
            many = 32 // bits
            filled = torch.nn.functional.pad(middle, (0, 0, 0, -len(middle) % many))
            parts[".weight_zero_point"] = words(filled, bits, 0)
        return parts, entrywise(numbers, scales.tolist(), middle.tolist(), [j // GROUP for j in range(matrix.shape[1])])

    return quantise


def nearest_e2m1(values):
    """Codes of four bits, of which the highest is the sign, and the numbers that they are."""
    table = torch.tensor([*E2M1, *(-value for value in E2M1)])
    codes = values[..., None].sub(table).abs().argmin(-1)
    return codes, table[codes]


def nvfp4(matrix):
    """Sixteen numbers share a float8 scale, and all an overall one."""
    overall = torch.tensor([64.0])
    grouped = matrix.unflatten(1, (-1, 16))
    scales = (grouped.abs().amax(-1) / 6 * overall).to(torch.float8_e4m3fn)
    real = scales.float() / overall
    codes, numbers = nearest_e2m1(grouped / real[..., None])
    pairs = codes.flatten(1).unflatten(1, (-1, 2))
    return {
        ".weight_packed": (pairs[..., 0] + 16 * pairs[..., 1]).to(torch.uint8),
        ".weight_scale": scales,
        ".weight_global_scale": overall,
    }, (numbers * real[..., None]).flatten(1)


def mxfp4(value):
    """gpt-oss's experts [expert, in, out]: blocks of 32 inputs share a power of two."""
    rows = value.transpose(1, 2).unflatten(-1, (-1, 32))
    exponents = torch.ceil(torch.log2(rows.abs().amax(-1) / 6))
    codes, numbers = nearest_e2m1(rows / torch.exp2(exponents)[..., None])
    pairs = codes.unflatten(-1, (-1, 2))
    parts = {
        "_blocks": (pairs[..., 0] + 16 * pairs[..., 1]).to(torch.uint8),
        "_scales": (exponents + 127).to(torch.uint8),
    }
    return parts, (numbers * torch.exp2(exponents)[..., None]).flatten(-2).transpose(1, 2)
