"""State of the charts of outcomes as a value, and as bytes: save, restore and go on equals never stopped."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from detectors.charts import adaptive, mixture
from detectors.charts.adaptive import Adaptive, History
from detectors.charts.mixture import Mixture
from detectors.resolve import BLOCKS, Watches
from schemas.errors import FormatError

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]

STATE_FORMAT = 1


class OutcomeState(NamedTuple):
    """A value, never changed in place.

    losses, calibration: the charts, None where there are none. member (M,): monitors in the incident; base, bet (M,):
    the rate, or the bet, that a member's change is measured from; watches: what must calm down. begun: start of the
    first pane, which has number 1, −1 before it. cooldown_until: alarms before it (ms) open nothing. habit: the usual
    coverage at maturity, NaN while unknown.
    """

    losses: Mixture | History | None
    calibration: Mixture | None
    member: Bools
    base: Floats
    bet: Ints
    watches: Watches
    habit: float
    begun: int = -1
    cooldown_until: int = -1


class _Saved(msgspec.Struct, array_like=True):
    format: int
    losses: bytes | None
    calibration: bytes | None
    member: list[bool]
    base: bytes
    bet: list[int]
    watched: list[int]
    size: bytes
    ring: bytes
    habit: float | None
    begun: int
    cooldown_until: int


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Saved)


def save_state(state: OutcomeState) -> bytes:
    """Bytes of a state; equal states give equal bytes."""
    charts = state.losses
    return _encoder.encode(
        _Saved(
            STATE_FORMAT,
            None if charts is None else adaptive.save(charts) if isinstance(charts, History) else mixture.save(charts),
            None if state.calibration is None else mixture.save(state.calibration),
            state.member.tolist(),
            state.base.astype("<f8").tobytes(),
            state.bet.tolist(),
            state.watches.direction.tolist(),
            state.watches.size.astype("<f8").tobytes(),
            state.watches.ring.astype("<f8").tobytes(),
            None if np.isnan(state.habit) else state.habit,
            state.begun,
            state.cooldown_until,
        )
    )


def load_state(fresh: OutcomeState, plan: object, raw: bytes) -> OutcomeState:
    """State from its bytes, in the shape of `fresh`, a start; plan: of the losses. `FormatError` when damaged."""
    try:
        saved = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"state of charts of outcomes: {error}") from error
    if saved.format > STATE_FORMAT:
        raise FormatError(f"state of charts of outcomes of format {saved.format}; this one reads up to {STATE_FORMAT}")
    same = (saved.losses is None) == (fresh.losses is None) and (saved.calibration is None) == (
        fresh.calibration is None
    )
    watched = len(saved.watched)
    if not same or len(saved.member) != fresh.member.size or len(saved.ring) != 8 * 3 * BLOCKS * watched:
        raise FormatError("state of charts of outcomes: of other monitors")
    charts: Mixture | History | None = None
    if saved.losses is not None:
        if isinstance(plan, Adaptive):
            charts = adaptive.load(plan, saved.losses)
        else:
            assert isinstance(fresh.losses, Mixture)
            charts = mixture.load(fresh.losses, saved.losses)
    return OutcomeState(
        losses=charts,
        calibration=None
        if saved.calibration is None or fresh.calibration is None
        else mixture.load(fresh.calibration, saved.calibration),
        member=np.array(saved.member, dtype=bool),
        base=np.frombuffer(saved.base, "<f8").astype(np.float64),
        bet=np.array(saved.bet, dtype=np.int64),
        watches=Watches(
            direction=np.array(saved.watched, dtype=np.int64),
            size=np.frombuffer(saved.size, "<f8").astype(np.float64),
            ring=np.frombuffer(saved.ring, "<f8").astype(np.float64).reshape(watched, BLOCKS, 3),
        ),
        habit=np.nan if saved.habit is None else saved.habit,
        begun=saved.begun,
        cooldown_until=saved.cooldown_until,
    )
