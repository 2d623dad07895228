"""What there is: literal dicts, one line for each thing, and laws in `tests/laws` over all of them.

`STATISTICS` compare counts of bins with the reference's; `DETECTORS` alarm within the model's budget; `RULES` are hard.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.statistics.chi2 import chi2, chi2_noise
from detectors.statistics.cramers_v import cramers_v, cramers_v_noise
from detectors.statistics.hellinger import hellinger, hellinger_noise
from detectors.statistics.jensen_shannon import jensen_shannon, jensen_shannon_noise
from detectors.statistics.ks import ks, ks_noise
from detectors.statistics.l_infinity import l_infinity, l_infinity_noise
from detectors.statistics.psi import psi, psi_noise
from detectors.statistics.total_variation import total_variation, total_variation_noise
from detectors.statistics.wasserstein import wasserstein_sd, wasserstein_sd_noise

Counts: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Statistic:
    """A number for people: `value(reference, pane)` on counts (…, bins), and `noise(reference, n)`, its value over n
    events when nothing changed. ordered: the bins must be in order, which categories are not. most: its upper end.
    root: its noise is the root mean square, as it is a root itself.
    """

    value: Callable[[Counts, Counts], Any]
    noise: Callable[[Counts, int], Any]
    unit: str
    ordered: bool = False
    most: float = float("inf")
    root: bool = False


STATISTICS: dict[str, Statistic] = {
    "psi": Statistic(value=psi, noise=psi_noise, unit="nats"),
    "jensen_shannon": Statistic(value=jensen_shannon, noise=jensen_shannon_noise, unit="√bits", most=1.0, root=True),
    "ks": Statistic(value=ks, noise=ks_noise, unit="share", ordered=True, most=1.0),
    "hellinger": Statistic(value=hellinger, noise=hellinger_noise, unit="", most=1.0, root=True),
    "total_variation": Statistic(value=total_variation, noise=total_variation_noise, unit="share", most=1.0),
    "wasserstein": Statistic(value=wasserstein_sd, noise=wasserstein_sd_noise, unit="sd", ordered=True),
    "chi2": Statistic(value=chi2, noise=chi2_noise, unit=""),
    "cramers_v": Statistic(value=cramers_v, noise=cramers_v_noise, unit="", most=1.0, root=True),
    "l_infinity": Statistic(value=l_infinity, noise=l_infinity_noise, unit="share", most=1.0),
}

DETECTORS: dict[str, str] = {
    "distribution": "tempered Shiryaev–Roberts mixture over panes of counts (detectors/charts/tempered.py)",
    "losses": "error rate or any loss in [0, 1] against a learned rate (detectors/charts/losses.py)",
    "adaptive": "the same without a reference, or with a small one (detectors/charts/adaptive.py)",
    "calibration": "whether scores still mean the same frequencies (detectors/charts/calibration.py)",
}

RULES: dict[str, str] = {
    "missing": "half of the events without a value, by default; `missing_below: x`",
    "range": "half of the events outside the reference's range or levels, by default; `range: [low, high]`",
    "required": "an event without a value, where `required: true`",
    "levels": "a level that the reference lacks, where `levels: closed`",
    "rows": "fewer events in a pane than `rows_at_least`",
    "silence": "no event for longer than twice the longest gap of that hour of the week, or chance, explains",
}
