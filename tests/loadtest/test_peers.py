"""The competitors' process, the search for their knobs, and what is committed about them."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from loadtest.detect import match, matched
from loadtest.detect.peers import DETECTORS, NAIVE, Environment, PeerError, Peers, knob_for, open_peers
from loadtest.detect.run_length import Rate
from loadtest.peers.contestants import PEERS, Correct, Peer, Upward, by_name
from schemas.errors import ConfigurationError


@pytest.fixture(scope="module")
def peers() -> Iterator[Peers]:
    """Our Python as the peers' own: enough for those that need no package."""
    with Peers(Path(sys.executable)) as found:
        yield found


def test_a_rate_stops_at_its_alarms_or_at_its_events(peers: Peers) -> None:
    file = peers.file(np.zeros(100_000, dtype=np.uint8))
    assert peers.rate(by_name("never-alarm"), 0.0, file, alarms=5, events=30_000) == Rate(0, 30_000)
    found = peers.rate(by_name("always-alarm"), 0.0, file, alarms=5, events=30_000)
    assert (found.alarms, found.events) == (10_000, 10_000)


def test_delays_count_from_the_change_and_early_alarms_apart(peers: Peers) -> None:
    before, after = (peers.file(np.zeros((3, size), dtype=np.float32)) for size in (4, 7))
    job = {"knob": 0.0, "before": before, "after": after}
    assert peers.submit("delays", peer="always-alarm", **job).result() == {"first": [1, 1, 1], "early": 3}
    assert peers.submit("delays", peer="never-alarm", **job).result() == {"first": [None] * 3, "early": 0}


def test_a_job_that_fails_says_why_and_the_next_one_goes_on(peers: Peers) -> None:
    with pytest.raises(PeerError, match="StopIteration"):
        peers.submit("cost", peer="nobody", knob=0.0, values="nothing").result()
    file = peers.file(np.zeros(3))
    assert peers.submit("alarms", peer="always-alarm", knob=0.0, values=file).result() == {"at": [1, 2, 3]}


def test_without_an_environment_rows_say_so() -> None:
    with Peers(None, "no network") as none:
        with pytest.raises(PeerError, match="no network"):
            none.submit("versions").result()
        rows = [row for row, _ in matched.PeerRows(none, arls=(100_000,), quick=True, seed=0).rows()]
    assert {row["detector"] for row in rows} > {"river ADWIN", "frouros CUSUM", "never-alarm"}
    assert all(row["setting"].startswith("n/a (") for row in rows)


def test_a_folder_that_is_no_environment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--peers: there is no Python at"):
        open_peers(tmp_path, root=tmp_path, say=print)


def test_upward_ignores_a_fall() -> None:
    class Steps:
        estimation, drift_detected = 0.0, True

        def update(self, x: float) -> None:
            self.estimation = x

    one = Upward(Steps())
    one.update(1.0)
    assert one.drift_detected
    one.update(0.5)
    assert not one.drift_detected


def test_who_waits_for_what_is_right_is_told_it() -> None:
    class Last:
        drift_detected = False

        def update(self, x: float) -> None:
            self.drift_detected = x == 0.0

    one = Correct(Last())
    one.update(1.0)
    assert one.drift_detected


def exponential(knob: float, alarms: int) -> Rate:
    """A run length of e^knob events."""
    return Rate(alarms, round(alarms * math.exp(knob)))


def test_the_knob_is_found_or_refused() -> None:
    peer = Peer("one", ("normal",), "limit", 1.0, 100.0, False, lambda _: None)
    knob, found = knob_for(peer, exponential, arl=10_000, alarms=170)
    assert math.exp(knob) == pytest.approx(10_000, rel=0.11)
    assert found.alarms == 170
    nearer, _ = knob_for(peer, exponential, arl=100_000, alarms=170, beyond=knob)
    assert math.exp(nearer) == pytest.approx(100_000, rel=0.11)
    short = Peer("one", ("normal",), "limit", 1.0, 5.0, False, lambda _: None)
    with pytest.raises(ValueError, match=r"no limit in \[1, 5\] gives one alarm per 10000 events; nearest: one per 1"):
        knob_for(short, exponential, arl=10_000, alarms=170)


def test_settings_are_settled_with_170_alarms_within_15_per_cent() -> None:
    """What `match` wrote; a run that takes longer than asked has fewer alarms, at least 120."""
    names = {peer.name for peer in PEERS}
    settled = [
        (name, place["alarms"], place["attained"] / int(arl))
        for name, arls in match.read().items()
        if name.split(" | ")[0] in names
        for arl, place in arls.items()
        if "knob" in place
    ]
    assert len(settled) >= 10
    assert [one for one in settled if one[1] < 120 or not 1 / 1.16 < one[2] < 1.16] == []


@pytest.mark.parametrize(
    ("environment", "named"),
    [(DETECTORS, ["frouros", "river"]), (NAIVE, ["evidently", "nannyml"])],
    ids=lambda one: getattr(one, "folder", ""),
)
def test_pins_have_hashes_and_no_addresses(environment: Environment, named: list[str]) -> None:
    text = environment.pins.read_text(encoding="utf-8")
    assert "://" not in text
    assert re.findall(rf"^({'|'.join(named)})==", text, re.MULTILINE) == named
    pins = [part for part in re.split(r"\n(?=\S)", text.strip()) if "==" in part]
    assert [part for part in pins if "--hash=sha256:" not in part] == []
