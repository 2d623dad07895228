"""What building a reference costs: `python -m loadtest.references [ROWS]`, 10 million rows × 10 features by default.

Rows are made in memory, chunk by chunk; reading a file comes on top. Prints CPU seconds by pass and the largest RSS.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.building import ReferenceBuilder
from detectors.references import dumps
from detectors.rows import Rows

CHUNK, EVERY_MS, START = 100_000, 121, 1_735_689_600_000


def main(rows: int) -> None:
    """Build once and print."""
    print(f"{os.cpu_count()} cores, numpy {np.__version__}, {rows:,} rows x 10 features, 6 views")
    builder = ReferenceBuilder("m", segments=("country",))
    making = _timed(lambda: sum(len(chunk) for chunk in _chunks(rows)))
    for name, take in (("survey", builder.survey), ("count", builder.count)):
        spent = _timed(partial(_all, take, rows))
        print(f"{name:8s} {max(0.0, spent - making):6.1f} s")
    start = time.process_time()
    raw = dumps(builder.finish())
    print(f"{'finish':8s} {time.process_time() - start:6.1f} s, a file of {len(raw):,} bytes")
    print(f"largest RSS {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


def _chunks(rows: int) -> Iterator[Rows]:
    for at in range(0, rows, CHUNK):
        rng = np.random.default_rng(at)
        columns: dict[str, npt.NDArray[Any]] = {f"f{j}": rng.normal(size=CHUNK) for j in range(5)}
        columns |= {f"g{j}": rng.lognormal(0, 1, CHUNK) for j in range(2)}
        columns |= {"whole": rng.integers(0, 60, CHUNK) * 1.0, "score": rng.random(CHUNK)}
        country = np.array(["FR", "DE", "ES", "IT", "US"], dtype=object)[rng.integers(0, 5, CHUNK)]
        ts = START + np.sort(rng.integers(at, at + CHUNK, CHUNK)) * EVERY_MS
        yield Rows(ts=ts, columns={**columns, "country": country}, segments={"country": country})


def _all(take: Callable[[Rows], None], rows: int) -> None:
    for chunk in _chunks(rows):
        take(chunk)


def _timed(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000)
