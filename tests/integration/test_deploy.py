"""What stands in deploy/ is accepted by the programs it is for, and the rules fire when they should."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from lacking import without
from parts import PartMissing, program

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def say(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def amtool() -> str:
    try:
        return program("amtool", package="prometheus-alertmanager")
    except PartMissing as missing:
        without(missing)
        raise


def test_promtool_accepts_the_configuration_and_its_rules(promtool: str) -> None:
    assert "SUCCESS: 7 rules found" in say(promtool, "check", "config", str(DEPLOY / "prometheus.yml"))


def test_the_rules_fire_when_they_should(promtool: str, tmp_path: Path) -> None:
    shutil.copy(DEPLOY / "tripline.rules.yml", tmp_path)
    shutil.copy(Path(__file__).parent / "rules.test.yml", tmp_path)
    say(promtool, "test", "rules", str(tmp_path / "rules.test.yml"))


def test_amtool_accepts_the_sample(amtool: str) -> None:
    assert "SUCCESS" in say(amtool, "check-config", str(DEPLOY / "alertmanager.yml"))


@pytest.mark.parametrize(("severity", "receiver"), [("page", "on-call"), ("ticket", "tickets")])
def test_an_incident_is_routed_by_its_severity(amtool: str, severity: str, receiver: str) -> None:
    config = f"--config.file={DEPLOY / 'alertmanager.yml'}"
    labels = ("alertname=TriplineIncident", "model=credit", "version=3", f"severity={severity}")
    assert say(amtool, "config", "routes", "test", config, *labels).splitlines()[0] == receiver


def test_the_rules_ask_only_for_metrics_that_workers_have() -> None:
    """A rule over a metric that was renamed never fires, and nobody notices."""
    asked = set(re.findall(r"\btripline_[a-z_]+", (DEPLOY / "tripline.rules.yml").read_text(encoding="utf-8")))
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "streamer").glob("*.py"))
    short = {name: name.removeprefix("tripline_").removesuffix("_total") for name in asked}
    assert [name for name in asked if not re.search(rf'"(tripline_)?{short[name]}"', source)] == []
