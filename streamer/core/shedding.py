"""Reports that fit into a record of Kafka: what would make one too large is left out, the least of it first.

Why: a report has some 400 bytes per monitor, and a topic takes a megabyte by Kafka's default. A model of a hundred
features in thirty views has more; refused by the broker, its report would end every worker that has the task. What is
left out was tested all the same: alarms, incidents and the state of the charts know of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import msgspec

from schemas.verdicts import CellCount, FeatureReport, OutcomeReport, Status, ViewReport, WindowReport
from streamer.core.cells import OTHER

#: Below the megabyte of a record, with room for the envelope and the headers.
REPORT_BYTES = 900_000
#: Cells that a report shows when it is too large; the others are summed by version, under `__other__`.
CELLS_SHOWN = 1_000
#: No monitor and no cell takes more than this.
_SURELY = 2_000
#: What a further finding may take.
_WORDS = 400

_size = msgspec.json.Encoder().encode


def fitting(report: WindowReport, *, size: int = REPORT_BYTES) -> WindowReport:
    """The report itself when its JSON has at most `size` bytes; else without the figures of the quietest monitors.

    Kept first is what drifts, then what is of the whole model, then what has most evidence; views keep their n. A
    finding says how many were left out.
    """
    # Most reports are far smaller, and need not be encoded once more to be known to be.
    monitors_in = sum(len(view.features) for view in report.views)
    if (monitors_in + len(report.cells) + len(report.marginals)) * _SURELY <= size or len(_size(report)) <= size:
        return report
    findings = list(report.findings)
    if len(report.cells) > CELLS_SHOWN:
        findings.append(f"{len(report.cells):,} cells: the {CELLS_SHOWN:,} largest are shown, the others under {OTHER}")
        report = msgspec.structs.replace(report, cells=_fewer(report.cells))
    bare = [msgspec.structs.replace(view, features=[]) for view in report.views]
    left = size - len(_size(msgspec.structs.replace(report, views=bare))) - _WORDS
    monitors = [(at, i, one) for at, view in enumerate(report.views) for i, one in enumerate(view.features)]
    monitors.sort(key=lambda found: _rank(*found))
    sizes = accumulate(len(_size(one)) + 1 for _, _, one in monitors)
    kept = {(at, i) for (at, i, _), upto in zip(monitors, sizes, strict=True) if upto <= left}
    if len(kept) < len(monitors):
        findings.append(
            f"{len(monitors) - len(kept):,} of {len(monitors):,} monitors, those with least evidence, are tested and "
            "not shown: the report would be larger than a record of Kafka"
        )
    return msgspec.structs.replace(report, views=_of(report.views, kept), findings=findings)


def outcomes_fitting(report: OutcomeReport, *, size: int = REPORT_BYTES) -> OutcomeReport:
    """The report itself when its JSON has at most `size` bytes; else without the views with fewest outcomes.

    Of the whole model, the first, all figures stay. A finding says how many views were left out.
    """
    if len(_size(report)) <= size:
        return report
    left = size - len(_size(msgspec.structs.replace(report, views=[]))) - _WORDS
    ranked = sorted(enumerate(report.views), key=lambda found: (found[0] > 0, -found[1].n, found[0]))
    sizes = accumulate(len(_size(view)) + 1 for _, view in ranked)
    kept = {at for (at, _), upto in zip(ranked, sizes, strict=True) if upto <= left or at == 0}
    text = (
        f"{len(report.views) - len(kept):,} of {len(report.views):,} views, those with fewest outcomes, are not shown: "
        "the report would be larger than a record of Kafka"
    )
    views = [view for at, view in enumerate(report.views) if at in kept]
    return msgspec.structs.replace(report, views=views, findings=[*report.findings, text])


def _of(views: Sequence[ViewReport], kept: set[tuple[int, int]]) -> list[ViewReport]:
    return [
        msgspec.structs.replace(view, features=[one for i, one in enumerate(view.features) if (at, i) in kept])
        for at, view in enumerate(views)
    ]


def _rank(at: int, i: int, one: FeatureReport) -> tuple[bool, bool, float, int, int]:
    verdict = one.verdict
    drifts = verdict is not None and verdict.status is Status.DRIFT
    excess = 0.0 if verdict is None or not verdict.limit else verdict.value / verdict.limit
    return (not drifts, at > 0, -excess, at, i)


def _fewer(cells: Sequence[CellCount]) -> list[CellCount]:
    largest = sorted(cells, key=lambda cell: (-cell.n, cell.version, cell.segment))
    found = {(cell.version, cell.segment): cell.n for cell in largest[:CELLS_SHOWN]}
    for cell in largest[CELLS_SHOWN:]:
        name = (cell.version, (OTHER,) * len(cell.segment))
        found[name] = found.get(name, 0) + cell.n
    return [CellCount(version=version, segment=segment, n=n) for (version, segment), n in sorted(found.items())]
