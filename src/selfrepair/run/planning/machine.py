"""Facts about a machine that affect the last bits of its results; all units of one run have to agree on them."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from functools import cache

import torch

_LIBRARIES = re.compile(r"(?:Math Kernel Library|MKL-DNN|oneDNN|OpenBLAS)[^\n(]*?(?= for | *\(| *\n)")
_VECTORS = re.compile(r"s?sse|avx|amx|fma|f16c|neon|asimd|sve|sme|bf16|fp16|i8mm|dot|vsx|vxe")  # what kernels use

_CHOOSE_KERNELS = (
    *("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE"),
    *("MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "MKL_DEBUG_CPU_TYPE", "OPENBLAS_CORETYPE", "NVIDIA_TF32_OVERRIDE"),
)


def machine(device: torch.device) -> dict[str, object]:
    """The processor's features, the libraries that multiply on it, and the device.

    Args:
        device: where the model is.

    Returns:
        JSON-able: `python`, `device`, `threads`, `processor`, `instructions` (the set that torch has chosen its kernels
        for), `features` of the processor by which libraries choose theirs, `float32_matmul` (torch's setting), the
        variables of the `environment` that choose kernels, `libraries`, and `accelerator` where there is one.
    """
    facts: dict[str, object] = {
        "python": platform.python_version(),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "processor": " ".join([platform.machine(), *processor_name()]),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "features": processor_features(),
        "float32_matmul": torch.get_float32_matmul_precision(),
        "environment": {name: os.environ[name] for name in _CHOOSE_KERNELS if name in os.environ},
        "libraries": [" ".join(match.split()) for match in _LIBRARIES.findall(torch.__config__.show())],
    }
    if device.type == "cuda":
        versions = f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"  # type: ignore[no-untyped-call]
        facts["accelerator"] = f"{torch.cuda.get_device_name(device)}, {versions}"
    return facts


def machine_facts(given: Mapping[str, object]) -> dict[str, object]:
    """Facts from `machine` in a form that can be compared; those without influence on rounding are left out."""
    features = given.get("features")
    facts = {name: value for name, value in given.items() if name not in ("python", "device", "features")}
    return facts | {f"feature {name}": True for name in (features if isinstance(features, list) else ())}


def processor_features() -> list[str]:
    """Names of the processor's vector features that torch knows of and has found, in alphabetical order."""
    return sorted(name for name, present in _capabilities().items() if present is True and _VECTORS.match(name))


def processor_name() -> list[str]:
    """The processor's family, by which libraries choose kernels too; nothing where torch does not know it."""
    name = _capabilities().get("cpu_name")
    return [str(name)] if name else []


@cache
def _capabilities() -> dict[str, object]:
    known = getattr(torch.cpu, "get_capabilities", None)
    if known is not None:
        return dict(known())
    checks = {name: check for name, check in vars(torch.cpu).items() if re.fullmatch(r"_is_\w+_supported", name)}
    return {name.removeprefix("_is_").removesuffix("_supported"): check() for name, check in checks.items()}
