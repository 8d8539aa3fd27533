"""Features of a token: columns whose sums over tokens determine every estimator.

Per token, with the ablated head's clean and ablated direct effects `DE`, `DE'`, total effect `TE` and
self-repair `SR = TE + L`:

* `lost`, `L = DE - DE'`: the direct effect that the ablation takes away; the damage to the logit is `-L`.
* `repaired`, `over_repaired`, `made_worse`: 1 or 0, by where `q SR` lies, `q = sign(L)`:
  in (0, |L|] something of the damage is countered and no more than all; above |L| the logit ends on the other
  side of where it was (`TE` has the sign of `L`); below 0 the rest of the model adds to the damage. Tokens that
  lose nothing (`L = 0`) or are not repaired at all (`SR = 0`) are none of the three.
* `clipped_norm`, `clipped_self_repair`: the paper's `clip(x / DE, 0, 1)` (docs/methods.md 4.3), with
  `ratio_defined` counting the tokens where DE is not 0; the others are left out, as its `nanmean` does.
* `donor_variance_...`: variance over a token's donors (with K - 1 below the line); NaN where there was one donor,
  and then so are the sums, of that column alone.

Sums of these columns merge by addition, weigh by document in the bootstrap, and are all that `estimators` reads.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from selfrepair.effects.lines import LINE_QUANTITIES
from selfrepair.statistics.accumulate import QUANTITIES

Array = npt.NDArray[np.float64]
DONOR_VARIANCES = ("donor_variance_self_repair", "donor_variance_total_effect")
FEATURES: tuple[str, ...] = (
    "count",
    *QUANTITIES,
    "lost",
    "direct_effect_squared",
    "lost_squared",
    "total_effect_squared",
    "self_repair_squared",
    "lost_times_total_effect",
    "absolute_self_repair",
    *(f"absolute_{line}" for line in LINE_QUANTITIES),
    "repaired",
    "over_repaired",
    "made_worse",
    "ratio_defined",
    "clipped_norm",
    "clipped_self_repair",
    "sigma_above_one",
    *DONOR_VARIANCES,
)
INDEX: dict[str, int] = {name: place for place, name in enumerate(FEATURES)}


def features(quantities: Mapping[str, np.ndarray], floor: float = 0.0) -> Array:
    """The columns of every token.

    Args:
        quantities: name (see `accumulate.QUANTITIES`) to [...], centred logits, all of one shape; the donor
            variances (`DONOR_VARIANCES`, squared centred logits) may be left out.
        floor: the run's numerical floor, centred logits: a self-repair, or a lost direct effect, no larger than
            this counts as none when tokens are sorted into repaired, over-repaired and made worse.

    Returns:
        float64 [..., feature] in the order of `FEATURES`. Tokens that do not count (padding) are the caller's to
        leave out.
    """
    columns = {name: np.asarray(quantities[name], np.float64) for name in QUANTITIES}
    effect, total, repair = columns["direct_effect"], columns["total_effect"], columns["self_repair"]
    lost = effect - columns["ablated_direct_effect"]
    columns["count"] = np.ones_like(effect)
    columns["lost"] = lost
    columns["direct_effect_squared"] = effect**2
    columns["lost_squared"] = lost**2
    columns["total_effect_squared"] = total**2
    columns["self_repair_squared"] = repair**2
    columns["lost_times_total_effect"] = lost * total
    for name in ("self_repair", *LINE_QUANTITIES):
        columns[f"absolute_{name}"] = np.abs(columns[name])
    columns |= _outcomes(lost, repair, floor)
    columns |= _clipped(effect, columns["repair_norm"], repair)
    columns["sigma_above_one"] = (columns["sigma_ratio"] > 1).astype(np.float64)
    for name in DONOR_VARIANCES:
        columns[name] = np.asarray(quantities.get(name, np.nan), np.float64)
    table = np.empty((*effect.shape, len(FEATURES)))
    for name, column in INDEX.items():
        table[..., column] = columns[name]
    return table


def _outcomes(lost: Array, repair: Array, floor: float) -> dict[str, Array]:
    damaged = np.abs(lost) > floor
    countered = np.where(damaged & (np.abs(repair) > floor), np.sign(lost) * repair, 0.0)
    beyond = countered > np.abs(lost)
    return {
        "repaired": ((countered > 0) & ~beyond).astype(np.float64),
        "over_repaired": beyond.astype(np.float64),
        "made_worse": (countered < 0).astype(np.float64),
    }


def _clipped(effect: Array, norm: Array, repair: Array) -> dict[str, Array]:
    defined = effect != 0
    below = np.where(defined, effect, 1.0)
    return {
        "ratio_defined": defined.astype(np.float64),
        "clipped_norm": np.where(defined, np.clip(norm / below, 0, 1), 0.0),
        "clipped_self_repair": np.where(defined, np.clip(repair / below, 0, 1), 0.0),
    }
