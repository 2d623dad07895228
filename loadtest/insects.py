"""A real stream with a published change, through real Kafka into a real Alertmanager, and through `backtest`.

INSECTS, gradual, balanced (Souza et al. 2020, CC BY 4.0): wing-beat spectra of flying insects, 33 features, 24,150 rows
in their order; the temperature, and with it every spectrum, changes gradually, centred at row 14,028. Rows 0–8,063 are
the reference; the others are streamed, stamped one every 151 s from 2025-01-01, and then rows 0–8,063 once more.

    python loadtest/insects.py --data insects_gradual_balanced.csv.gz [--bootstrap HOST:PORT --alertmanager URL]

Without addresses it starts a Kafka and an Alertmanager of its own from .parts/ (`make parts`). Exit 0 only if there was
exactly one incident, opened between rows 10,400 and 11,000 and resolved by the old rows, one trigger, Alertmanager had
it firing, and `backtest` says the same of the same rows: times, features, trigger.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

ROOT = Path(__file__).resolve().parents[1]
TRIPLINE = Path(sys.executable).with_name("tripline")

REFERENCE_ROWS, FEATURES, PARTITIONS, EVERY_MS = 8_064, 33, 4, 151_000
START_MS = int(datetime(2025, 1, 1, tzinfo=UTC).timestamp() * 1000)
STREAM_MS = START_MS + REFERENCE_ROWS * EVERY_MS
#: An incident may open from the first to the second of these rows (the published file's count).
OPENS = (10_400, 11_000)

CONFIGURATION = """\
kafka:
  bootstrap_servers: "{bootstrap}"
  app: "{name}"
  topic_prefix: "{name}-"
  inputs: {{predictions: null, features: "{name}-features", outcomes: null}}
  profiles_partitions: {partitions}
alertmanager: {{urls: ["{alertmanager}"]}}
metrics: {{port: {port}}}
start: earliest
max_alert_age: off
models:
  insects:
    reference: insects.json
    pane: 2h
    false_alarms: 1 per 30d
    tolerance: 0.1
    owner: team-entomology
    runbook: https://runbooks.example/insects
    retrain: {{when: drift, cooldown: 24h, mode: auto}}
    table: {{features: "c0..c32", every: 151s, start: 2025-01-01, header: false}}
"""


@dataclass(frozen=True)
class Site:
    """Where a run works: its folder, its configuration, the broker, Alertmanager."""

    folder: Path
    name: str
    bootstrap: str
    alertmanager: str
    port: int

    @property
    def file(self) -> Path:
        return self.folder / "tripline.yaml"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True, help="insects_gradual_balanced.csv.gz")
    parser.add_argument("--bootstrap", help="a Kafka that is there")
    parser.add_argument("--alertmanager", help="URL of an Alertmanager that is there")
    parser.add_argument("--json", type=Path, help="write the findings here")
    asked = parser.parse_args()
    if bool(asked.bootstrap) != bool(asked.alertmanager):
        parser.error("--bootstrap and --alertmanager go together")
    with tempfile.TemporaryDirectory(prefix="tripline-insects-") as name, contextlib.ExitStack() as ends:
        folder = Path(name)
        bootstrap, alertmanager = asked.bootstrap, asked.alertmanager
        if bootstrap is None:
            bootstrap, alertmanager = ends.enter_context(_own_parts(folder))
        site = Site(folder, f"insects-{secrets.token_hex(3)}", bootstrap, alertmanager, _brokers().free_port())
        found = run(site, _lines(asked.data))
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=2))
    faults = complaints(found)
    print("\n".join(faults) if faults else "insects: found, told once, resolved; backtest says the same", flush=True)
    return 1 if faults else 0


def run(site: Site, lines: list[str]) -> dict[str, Any]:
    """Reference, worker, stream, second stream, backtest; what was seen on the way."""
    old, new = lines[:REFERENCE_ROWS], lines[REFERENCE_ROWS:]
    (site.folder / "insects.csv").write_text("".join(lines + old))
    site.file.write_text(
        CONFIGURATION.format(
            bootstrap=site.bootstrap, name=site.name, alertmanager=site.alertmanager, partitions=PARTITIONS,
            port=site.port,
        )
    )  # fmt: skip
    learned = ["--model", "insects", "--features", "c0..c32", "--every", "151s", "--start", "2025-01-01", "--no-header"]
    rows = f"0:{REFERENCE_ROWS}"
    _tripline(site, "reference", "build", "insects.csv", "--rows", rows, *learned, "-o", "insects.json")
    _tripline(site, "topics", "create", "-c", "tripline.yaml", "--partitions", str(PARTITIONS))
    replay = ["-c", "tripline.yaml", "--model", "insects", "--rows", f"{REFERENCE_ROWS}:", "--json", "-"]
    backtest = json.loads(_tripline(site, "backtest", "insects.csv", *replay))
    with _worker(site):
        _say("worker ready; streaming rows 8,064 to 24,149")
        _publish(site, new, since=STREAM_MS)
        firing = _until("an alert fires in Alertmanager", lambda: _alerts(site, "active"))
        query = _amtool(site)
        incident = _incidents(site)[-1]
        _say(
            f"firing: {firing[0]['labels']}",
            f"open since {_time(incident['opened_at'])}, row {_row(incident['opened_at'])}",
        )
        _say("streaming rows 0 to 8,063 again, with later stamps")
        _publish(site, old, since=STREAM_MS + len(new) * EVERY_MS)
        _until("the incident resolves", lambda: _incidents(site)[-1]["state"] == "resolved")
        _until("no alert is active in Alertmanager", lambda: not _alerts(site, "active"))
        _until("the last pane is reported", lambda: _last_window(site) >= _last_full_pane(len(lines)))
    incident = _incidents(site)[-1]
    _say(f"resolved at {_time(incident['resolved_at'])}, row {_row(incident['resolved_at'])}")
    return {
        "amtool": query,
        "incidents": _incidents(site),
        "alerts": [record["data"] for record in _read(site, "alerts")],
        "triggers": [record["data"] for record in _read(site, "retrain-triggers")],
        "windows": len(_read(site, "windows")),
        "backtest": backtest,
    }


def complaints(found: dict[str, Any]) -> list[str]:
    """What is not as it should be, a sentence each."""
    said = []
    incidents = {record["id"]: record for record in found["incidents"]}
    if len(incidents) != 1 or len(found["triggers"]) != 1:
        said.append(f"expected one incident and one trigger, got {len(incidents)} and {len(found['triggers'])}")
    if len(found["backtest"]["incidents"]) != 1 or len(found["backtest"]["triggers"]) != 1:
        said.append(f"backtest: expected one incident and one trigger, got {found['backtest']}")
    if said:
        return said
    [last], [replayed] = incidents.values(), found["backtest"]["incidents"]
    if not OPENS[0] <= _row(last["opened_at"]) <= OPENS[1]:
        said.append(f"opened at row {_row(last['opened_at'])}, expected {OPENS[0]} to {OPENS[1]}")
    if last["state"] != "resolved":
        said.append(f"the incident is {last['state']}")
    if "insects" not in found["amtool"]:
        said.append(f"amtool alert query did not show it: {found['amtool']!r}")
    times = [_time(last["opened_at"]), _time(last["resolved_at"] or 0)]
    if times != [_second(replayed["opened_at"]), _second(replayed["resolved_at"] or "")]:
        said.append(f"live {times}, backtest {replayed['opened_at']} to {replayed['resolved_at']}")
    live, again = ({item["feature"] for item in one["evidence"]} for one in (last, replayed))
    if live != again:
        said.append(f"features: live only {sorted(live - again)}, backtest only {sorted(again - live)}")
    return said


def _publish(site: Site, lines: list[str], *, since: int) -> None:
    producer = Producer({"bootstrap.servers": site.bootstrap, "linger.ms": 20})
    for i, line in enumerate(lines):
        values = [float(cell) for cell in line.split(",")[:FEATURES]]
        features = {f"c{j}": value for j, value in enumerate(values)}
        row = {"feature_set": "insects", "entity": f"row-{i}", "ts": since + i * EVERY_MS, "features": features}
        producer.produce(f"{site.name}-features", orjson.dumps(row), partition=i % PARTITIONS)
        if i % 1000 == 0:
            producer.poll(0)
    if producer.flush(60):
        raise SystemExit("the broker did not take all rows")


@contextlib.contextmanager
def _worker(site: Site) -> Iterator[None]:
    log = site.folder / "worker.log"
    with log.open("wb") as out:
        child = subprocess.Popen(
            [TRIPLINE, "run", "-c", "tripline.yaml", "--slot", "0"], cwd=site.folder, stdout=out, stderr=out
        )
    try:
        _until("the worker is ready", lambda: _get(f"http://127.0.0.1:{site.port}/readyz") is not None)
        yield
        child.send_signal(signal.SIGTERM)
        if child.wait(20) != 0:
            raise SystemExit(f"the worker ended with {child.returncode}:\n{log.read_text()[-4000:]}")
    except TimeoutError as error:
        raise SystemExit(f"{error}\n{log.read_text()[-4000:]}") from error
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()


def _incidents(site: Site) -> list[dict[str, Any]]:
    return [record["data"] for record in _read(site, "incidents")]


def _last_window(site: Site) -> int:
    return max((record["data"]["end"] for record in _read(site, "windows")), default=0)


def _last_full_pane(rows: int) -> int:
    end, pane = STREAM_MS + rows * EVERY_MS, 7_200_000
    return end // pane * pane


def _read(site: Site, topic: str) -> list[dict[str, Any]]:
    """Everything committed in one of our topics, in the order of its partitions."""
    consumer = Consumer(
        {
            "bootstrap.servers": site.bootstrap, "group.id": "reader", "isolation.level": "read_committed",
            "enable.auto.commit": False, "enable.partition.eof": True,
        }
    )  # fmt: skip
    name = f"{site.name}-{topic}"
    try:
        places = consumer.list_topics(name, timeout=10).topics[name].partitions
        consumer.assign([TopicPartition(name, place, OFFSET_BEGINNING) for place in places])
        found, left = [], len(places)
        while left:
            message = consumer.poll(20)
            if message is None:
                raise TimeoutError(f"{name}: its end was not reached")
            if message.error():
                left -= 1
            elif message.value():
                found.append(orjson.loads(message.value()))
    finally:
        consumer.close()
    return found


def _alerts(site: Site, state: str) -> list[dict[str, Any]]:
    alerts = json.loads(_get(f"{site.alertmanager}/api/v2/alerts?active=true") or b"[]")
    mine = [alert for alert in alerts if alert["labels"].get("model") == "insects"]
    return [alert for alert in mine if alert["status"]["state"] == state]


def _amtool(site: Site) -> str:
    command = ["amtool", f"--alertmanager.url={site.alertmanager}", "alert", "query", "model=insects"]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout


def _get(url: str) -> bytes | None:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bytes(answer.read())
    except OSError:
        return None


def _until(what: str, look: Callable[[], Any], *, within: float = 90.0) -> Any:
    end = time.monotonic() + within
    while not (answer := look()):
        if time.monotonic() > end:
            raise TimeoutError(f"not within {within:.0f} s: {what}")
        time.sleep(0.2)
    return answer


def _tripline(site: Site, *arguments: str) -> str:
    done = subprocess.run([TRIPLINE, *arguments], cwd=site.folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"tripline {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def _brokers() -> Any:
    sys.path.append(str(ROOT / "tests" / "integration"))
    import brokers  # type: ignore[import-not-found]

    return brokers


@contextlib.contextmanager
def _own_parts(folder: Path) -> Iterator[tuple[str, str]]:
    with _brokers().parts_up(folder / "parts") as (kafka, alertmanager):
        yield kafka.bootstrap, alertmanager.url


def _lines(data: Path) -> list[str]:
    with gzip.open(data, "rt") as rows:
        return list(rows)


def _row(ms: int) -> int:
    return (ms - START_MS) // EVERY_MS


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _second(text: str) -> str:
    return _time(int(datetime.fromisoformat(text).timestamp() * 1000)) if text else _time(0)


def _say(*lines: str) -> None:
    print("\n".join(lines), flush=True)


if __name__ == "__main__":
    sys.exit(main())
