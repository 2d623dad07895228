"""How predictions were served: latency, cost and status, which need no labels; tested like features of those names.

Why pseudo-features: bins, season, design effect, tolerance and the budget are the same questions for a latency as for
an income. A status is ok or an error, whatever words a service has for it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.rows import Rows, as_levels

#: What an event may say of how it was served, and what that is.
SERVED = {"latency_ms": "numeric", "cost": "numeric", "status": "categorical"}
#: Levels of `status`, both of them always: an error that the reference never saw is an error, not an unseen level.
WELL, FAILED = "ok", "error"
STATUS_LEVELS = (WELL, FAILED)
_WELL_WORDS = frozenset({"ok", "success", "succeeded", "200"})


def status_level(text: str | None) -> str | None:
    """`ok` or `error` for a status as events say it, by level (`detectors.rows.level_text`); None where there is none.

    >>> [status_level(text) for text in ("OK", "200", "timeout", "", None)]
    ['ok', 'ok', 'error', None, None]
    """
    return None if not text else WELL if text.lower() in _WELL_WORDS else FAILED


def status_levels(texts: Sequence[str | None]) -> list[str | None]:
    """The same for a column.

    >>> status_levels(["200", None])
    ['ok', None]
    """
    return list(map(_known(texts).__getitem__, texts))


def served_rows(rows: Rows, served: Collection[str]) -> Rows:
    """The rows as they are counted: a broken latency or cost is missing, a status is one of two levels.

    >>> rows = Rows(ts=np.zeros(2, np.int64), columns={"status": np.array(["200", "timeout"], dtype=object)})
    >>> served_rows(rows, ["status"]).columns["status"].tolist()
    ['ok', 'error']
    """
    here = [name for name in served if name in rows.columns]
    if not here:
        return rows
    return replace(rows, columns={**rows.columns, **{name: _counted(name, rows.columns[name]) for name in here}})


def _counted(name: str, column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if SERVED[name] == "categorical":
        return np.array(status_levels(as_levels(column)), dtype=object)
    return np.where(np.isfinite(column), column, np.nan) if column.dtype.kind == "f" else column


def _known(texts: Iterable[str | None]) -> dict[str | None, str | None]:
    return {text: status_level(text) for text in set(texts)}
