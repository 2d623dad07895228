"""`tripline demo` as a person runs it, with a real Alertmanager listening."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from brokers import Alertmanager


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_the_demo_fires_triggers_resolves_and_tells_alertmanager(alertmanager: Alertmanager) -> None:
    command = [sys.executable, "-c", "from streamer.commands import main; main()", "demo", "--json"]
    done = subprocess.run(
        [*command, "--alertmanager", alertmanager.url], capture_output=True, text=True, timeout=140, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    [incident] = found["incidents"]
    assert (found["ok"], found["false_alarms"], len(found["triggers"])) == (True, 0, 1)
    assert incident["resolved_at"] > incident["opened_at"] > found["drift_at"]
    assert "told that it fired and that it resolved" in found["alertmanager"]
    assert done.stderr == ""
