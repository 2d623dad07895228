"""What binning and counting cost per value: `python -m loadtest.binning`. One thread; say the machine by its cores."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import numpy as np

from detectors.bins import Binner, FeatureSpec
from detectors.profiles import Table
from detectors.survey import fixed_point_of, quantile_edges
from detectors.tabulate import tabulate

ROWS, GROUPS, REPEATS = 2000, 40, 300


def main() -> None:
    """Print ns per value for `codes`, `searchsorted` and `tabulate` at 2,000 rows × 10 features × 40 groups."""
    rng = np.random.default_rng(0)
    normal, heavy, whole = rng.normal(size=(6, ROWS)), rng.lognormal(0, 1, (3, ROWS)), rng.integers(0, 50, (1, ROWS))
    values = np.ascontiguousarray(np.concatenate([normal, heavy, whole]).T)
    specs = tuple(_spec(f"f{i}", np.sort(values[:, i])) for i in range(values.shape[1]))
    table, binner = Table(specs), Binner(specs)
    group, none = rng.integers(0, GROUPS, ROWS), np.zeros((ROWS, 0), dtype=np.int32)
    edges = [np.array(spec.edges) for spec in specs]
    columns = np.ascontiguousarray(values.T)
    print(f"{os.cpu_count()} cores, numpy {np.__version__}, {ROWS} rows x {len(specs)} features, {GROUPS} groups")
    for name, work in (
        ("codes", lambda: binner.codes(values)),
        ("searchsorted", lambda: [np.searchsorted(e, x) for e, x in zip(edges, columns, strict=True)]),
        ("tabulate, codes included", lambda: tabulate(table, binner, values, none, group, GROUPS)),
    ):
        print(f"{name:26s} {_nanoseconds(work) / values.size:6.1f} ns per value")


def _spec(name: str, ordered: np.ndarray) -> FeatureSpec:
    low, high = float(ordered[0]), float(ordered[-1])
    clip, bits = fixed_point_of(max(abs(low), abs(high)))
    edges = quantile_edges(ordered, high=high)
    return FeatureSpec(name=name, kind="numeric", edges=edges, low=low, high=high, scale_bits=bits, clip=clip)


def _nanoseconds(work: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter_ns()
        work()
        times.append(time.perf_counter_ns() - start)
    return float(np.median(times))


if __name__ == "__main__":
    main()
