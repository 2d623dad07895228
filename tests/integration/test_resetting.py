"""`tripline reset` while a worker runs: it goes on, the model begins anew at a pane ahead, and the audit says why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from brokers import Kafka, eventually
from deployments import Deployment, event
from fleets import read_topic

HOUR = 3_600_000
APPLIED = 'tripline_events_applied_total{stage="monitoring"}'


def test_a_model_begins_anew_under_a_worker_that_goes_on(kafka: Kafka, prefix: str, tmp_path: Path) -> None:
    """Nothing is changed without a word; every event is counted; the layout that follows is on `control`."""
    # Held for long: after a pause one partition's next events may be read a while before the other's.
    with Deployment(kafka, prefix, tmp_path, model="tolerance: 0.1, hold: 24h") as deployment:
        deployment.create()
        worker = deployment.run()
        deployment.send(event(i * HOUR // 10) for i in range(30))
        eventually(lambda: deployment.metric(APPLIED) == 30, within=30)

        stranger = deployment.tripline("reset", "n")
        assert (stranger.returncode, "no model 'n' is in force; known are m" in stranger.stderr) == (2, True)
        unsaid = deployment.tripline("reset", "m")
        assert unsaid.returncode == 1
        assert "m begins anew with its events from 2025-01-06T0" in unsaid.stdout
        assert unsaid.stdout.endswith("nothing was changed; --yes puts it in force\n")
        done = deployment.tripline("reset", "m", "--yes", "--reason", "moved house", "--by", "ann", "--json")
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)

        deployment.send(event(3 * HOUR + i * HOUR // 10) for i in range(60))
        eventually(lambda: deployment.metric(APPLIED) == 90, within=30)
        assert worker.running, worker.tail()

        def notes() -> list[Any]:
            audits = [json.loads(record.value)["data"] for record in read_topic(deployment.settings, f"{prefix}audit")]
            # An incident that is open, and its alerts, resolve for the same reason: events of one age are a drift.
            return [audit for audit in audits if audit["reason"] == "reset" and audit["decision"] == "begins anew"]

        (note,) = eventually(notes, within=30, every=0.5, what="the audit")
        assert note["subject"] == f"layout {told['layout']}"
        assert note["details"]["why"] == "ann: moved house"
        assert deployment.tripline("apply").stdout == "in force already: nothing to change\n"
