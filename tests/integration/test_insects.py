"""A published change in real data: found in time, told once, resolved; and `backtest` says the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from brokers import Alertmanager, Kafka

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data" / "insects_gradual_balanced.csv.gz"


@pytest.mark.skipif(not DATA.exists(), reason=f"no {DATA.name} in ../shared/data")
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_warming_of_the_insects_is_one_incident_live_and_replayed(
    kafka: Kafka, alertmanager: Alertmanager, tmp_path: Path
) -> None:
    """loadtest/insects.py exits 0 only if all that its docstring promises was seen."""
    findings = tmp_path / "insects.json"
    done = subprocess.run(
        [
            sys.executable, ROOT / "loadtest" / "insects.py", "--data", DATA, "--bootstrap", kafka.bootstrap,
            "--alertmanager", alertmanager.url, "--json", findings,
        ],
        capture_output=True, text=True, check=False, timeout=380,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(findings.read_text())
    first, last = found["incidents"][0], found["incidents"][-1]
    assert (first["state"], last["state"]) == ("firing", "resolved")
    assert len(last["evidence"]) >= 2
    assert [trigger["state"] for trigger in found["triggers"]] == ["approved"]
