"""What the changelog of stage 2 keeps of a model, back into its state: clock, ledger, charts, held and other panes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.errors import LateLayout
from streamer.core.merging import Extras
from streamer.core.models import Held, Model
from streamer.core.outcome_panes import OutcomePane, OutcomeRecord
from streamer.core.positions import ClockRecord, HeldRecord, LateRecord, LedgerRecord, unpack
from streamer.core.tallies import Tally
from streamer.core.watermarks import Clock

if TYPE_CHECKING:
    from streamer.core.monitoring import MonitoringState


def restore_record(state: MonitoringState, name: bytes, value: bytes) -> None:
    """Take in one record of the changelog; a model's clock comes before what else there is of it."""
    kind, _, rest = name.decode().partition("|")
    if kind == "clock":
        clock = unpack(value, ClockRecord, key=name)
        _catch_up_quiet(clock.clock, state.ticked)
        state.models[rest] = Model(
            rest,
            clock.clock,
            clock.known,
            closed=clock.closed,
            layout=clock.layout,
            version=clock.version,
            refused=clock.refused,
        )
    elif kind == "ledger":
        ledger = unpack(value, LedgerRecord, key=name)
        state.models[rest].episode, state.models[rest].ledger = ledger.episode, ledger.ledger
    elif kind == "chart":
        block, _, model_name = rest.partition("|")
        state.models[model_name].blocks[block] = value
    elif kind == "outcome":
        at, layout, model_name = rest.split("|", 2)
        _restore_outcomes(state, name, value, start=int(at), layout=layout, model=state.models[model_name])
    else:
        at, layout, model_name = rest.split("|", 2)
        _restore_held(state, name, value, start=int(at), layout=layout, model=state.models[model_name])


def _restore_outcomes(
    state: MonitoringState, name: bytes, value: bytes, *, start: int, layout: str, model: Model
) -> None:
    assert state.forms is not None
    form = state.forms.by_id(model.name, layout)
    if form is None or form.outcomes is None:
        raise LateLayout(f"layout {layout} of {model.name} has outcomes of {start}, but control has it no more")
    model.outcomes[start] = OutcomePane.restored(form, start, unpack(value, OutcomeRecord, key=name))


def _restore_held(state: MonitoringState, name: bytes, value: bytes, *, start: int, layout: str, model: Model) -> None:
    assert state.forms is not None
    form = state.forms.by_id(model.name, layout)
    if form is None:
        raise LateLayout(f"layout {layout} of {model.name} holds the pane at {start}, but control has it no more")
    held = model.held.get(start)
    if held is None:
        held = Held(form, start, None, Extras())
        model.hold(held)
    if name.startswith(b"held|"):
        record = unpack(value, HeldRecord, key=name)
        held.on_time, held.extras = record.on_time, Extras(record.extras)
    else:
        late = unpack(value, LateRecord, key=name)
        held.late, held.extras = Tally.unpack(late.late), Extras(late.extras)
        held.revision, held.unsaid = late.revision, late.unsaid
        if held.unsaid:
            model.unsaid.add(start)


def _catch_up_quiet(clock: Clock, ticked: int) -> None:
    """A quiet model's watermark moves with every progress and is not written each time: it follows from the last."""
    if clock.quiet_since is not None and clock.watermark is not None:
        clock.watermark = max(clock.watermark, clock.quiet_from + ticked - clock.quiet_since)
