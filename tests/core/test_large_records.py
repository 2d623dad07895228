"""Records that would be larger than Kafka takes: state travels in pieces, reports leave out the least of it."""

from __future__ import annotations

import msgspec
import pytest
from stage2 import Reader, busy_log, control, layout

from schemas.errors import FormatError
from schemas.layouts import View
from schemas.verdicts import (
    CellCount,
    FeatureReport,
    OutcomeReport,
    OutcomeViewReport,
    Status,
    Verdict,
    ViewReport,
    WindowReport,
)
from streamer.core import monitoring
from streamer.core.outbox import Outbox
from streamer.core.pieces import in_pieces, joined
from streamer.core.positions import latest
from streamer.core.records import Output
from streamer.core.shedding import REPORT_BYTES, fitting, outcomes_fitting

#: What a topic takes by default.
RECORD = 1_048_588


def written(pairs: list[tuple[bytes, bytes | None]], *, size: int) -> list[tuple[bytes, bytes | None]]:
    """A changelog as it is when no record may have more than `size` bytes."""
    counts: dict[bytes, int] = {}
    found = [in_pieces([Output("changelog", key, value)], counts, size=size) for key, value in pairs]
    return [(one.key, one.value) for each in found for one in each]


def test_a_state_comes_back_from_pieces_as_from_whole_values() -> None:
    """Values grow, shrink and go in the course of this log; what is left is what would be left without pieces."""
    log = busy_log()
    reader = Reader.start(control(layout(), sources=2)).read(log, range(0, len(log.records), 7))
    pairs = written(reader.changelog, size=200)
    assert sum(key.startswith(b"piece|") for key, _ in pairs) > 100
    assert joined(latest(pairs))[0] == latest(reader.changelog)
    state = monitoring.replay(monitoring.restore(pairs, reader.control, 0), log.records, reader.control)
    assert (state.replayed, state.digest) == (True, reader.restored(log).state.digest)
    assert state.pieces.keys() == {key for key, value in latest(reader.changelog).items() if len(value) > 200}


def test_a_piece_that_lacks_is_damage() -> None:
    pairs = written([(b"ledger|m", bytes(1_000))], size=300)
    del pairs[1]
    with pytest.raises(FormatError, match="700 bytes in 4 pieces, the head says 1000"):
        joined(latest(pairs))


def test_a_worker_that_knows_no_pieces_refuses_them() -> None:
    head = written([(b"ledger|m", bytes(1_000))], size=300)[-1][1]
    assert msgspec.msgpack.decode(head or b"")["format"] == 2


def feature(name: str, *, drifts: bool = False, value: float = 1.0) -> FeatureReport:
    status = Status.DRIFT if drifts else Status.UNDECIDED
    verdict = Verdict(status=status, value=value, limit=100.0, n=123_456, effective_n=12.3456789, reference="0" * 16)
    return FeatureReport(
        feature=name, n=123_456, missing=0.123456789, mean=0.123456789, least=0.123456789, largest=0.123456789,
        psi=0.123456789, psi_noise=0.123456789, jensen_shannon=0.123456789, ks=0.123456789, verdict=verdict,
    )  # fmt: skip


def report(views: int, features: int, *, cells: int = 1) -> WindowReport:
    """The last monitor drifts, the one before has most evidence of the others."""
    names = [f"a feature of some length, number {i}" for i in range(features)]
    of_view = list(map(feature, names))
    found = [ViewReport(view=View("country", f"C{at}"), n=at, features=of_view[:]) for at in range(views)]
    found[-1].features[-1] = feature(names[-1], drifts=True)
    found[-1].features[-2] = feature(names[-2], value=50.0)
    return WindowReport(
        model="m", layout="l", reference="r", start=0, end=1, revision=0, n=views, late_n=0, views=found,
        cells=[CellCount(version="1", segment=(f"FR{i}", "web"), n=i) for i in range(cells)], findings=["unseen: XX"],
    )  # fmt: skip


def test_a_report_that_fits_is_left_as_it_is() -> None:
    small = report(3, 20)
    assert fitting(small) is small


def test_a_report_on_ten_thousand_monitors_fits_into_a_record_and_says_what_it_leaves_out() -> None:
    large = report(50, 200)
    outbox = Outbox(partition=0, audits=0)
    outbox.window(large)
    ((_, _, value, _, _),) = outbox.records
    assert len(value or b"") < RECORD
    found = fitting(large)
    assert [(view.view, view.n) for view in found.views] == [(view.view, view.n) for view in large.views]
    assert found.views[0].features == large.views[0].features
    assert found.views[-1].features == large.views[-1].features[-2:]
    shown = sum(len(view.features) for view in found.views)
    assert found.findings == [
        "unseen: XX",
        f"{10_000 - shown:,} of 10,000 monitors, those with least evidence, are tested and not shown: the report would "
        "be larger than a record of Kafka",
    ]
    assert shown > 1_000


def test_cells_of_a_report_that_is_too_large_still_add_up() -> None:
    found = fitting(report(1, 2, cells=30_000))
    assert len(msgspec.json.encode(found)) <= REPORT_BYTES
    assert sum(cell.n for cell in found.cells) == sum(range(30_000))
    assert (found.cells[-1].n, found.cells[-1].segment) == (sum(range(29_000)), ("__other__", "__other__"))
    assert found.findings[-1] == "30,000 cells: the 1,000 largest are shown, the others under __other__"


def test_a_report_on_outcomes_that_is_too_large_keeps_the_model_and_the_fullest_views() -> None:
    views = [OutcomeViewReport(view=View("city", "x" * 90 + str(at)), n=at, expected=at) for at in range(9_000)]
    large = OutcomeReport(
        model="m", layout="l", reference="r", start=0, end=1, revision=0, early=False, n=1, expected=1, late_n=0,
        coverage=1.0, views=views,
    )  # fmt: skip
    found = outcomes_fitting(large)
    assert len(msgspec.json.encode(found)) <= REPORT_BYTES
    assert [found.views[0], *found.views[-2:]] == [views[0], *views[-2:]]
    assert f"{9_000 - len(found.views):,} of 9,000 views" in found.findings[-1]
