"""Get the real parts of the integration tests: Kafka's jars by Maven, Alertmanager and promtool by apt.

    python tests/integration/parts.py [4.3|3.9]    # `make parts`

Says what is missing and why, and goes on: those tests are then skipped, by name. With CI=true a missing part is an
error. Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARTS = ROOT / ".parts"
VERSIONS = {"4": "4.3.1", "4.3": "4.3.1", "4.3.1": "4.3.1", "3": "3.9.1", "3.9": "3.9.1", "3.9.1": "3.9.1"}
#: Asked by Debian's package scripts before they start a service; 101 says no.
POLICY = Path("/usr/sbin/policy-rc.d")


class PartMissing(Exception):
    """A real part that cannot be had here; the message says which and why."""


def kafka_libs(version: str) -> Path:
    """Folder of Kafka's jars; `PartMissing` says how to get them."""
    libs = PARTS / f"kafka-{VERSIONS[version]}" / "libs"
    if not shutil.which("java"):
        raise PartMissing("Apache Kafka: no `java` on this machine (Java 17 or later)")
    if not list(libs.glob("kafka_2.13-*.jar")) or not [*libs.glob("log4j-slf4j-impl*"), *libs.glob("slf4j-reload4j*")]:
        raise PartMissing(f"Apache Kafka: no jars in {libs.relative_to(ROOT)} (`make parts` fetches them by Maven)")
    return libs


def fetch_kafka(version: str = "4.3.1", *, tries: int = 3) -> Path:
    """Copy Kafka's jars into .parts/ through Maven, trying again; `PartMissing` when that cannot be done."""
    with contextlib.suppress(PartMissing):
        return kafka_libs(version)
    if not shutil.which("mvn") or not shutil.which("java"):
        raise PartMissing("Apache Kafka: fetching its jars needs `java` and `mvn`")
    pom = Path(__file__).parent / "poms" / f"kafka-{VERSIONS[version]}.xml"
    libs = PARTS / f"kafka-{VERSIONS[version]}" / "libs"
    half = libs.with_name("libs.half")  # a copy that breaks off leaves no folder that looks whole
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={half}"]
    said = ""
    for attempt in range(tries):
        try:
            done = subprocess.run(
                ["mvn", "-q", "-B", "-f", str(pom), *goal], capture_output=True, text=True, timeout=300, check=False
            )
        except subprocess.TimeoutExpired:
            said = "mvn: no end after 300 s"
            continue
        if done.returncode == 0:
            shutil.rmtree(libs, ignore_errors=True)
            half.rename(libs)
            return kafka_libs(version)
        said = (done.stdout + done.stderr).strip()[-400:]
        time.sleep(2 * attempt)
    raise PartMissing(f"Apache Kafka: mvn failed {tries} times: {said}")


def program(*names: str, package: str) -> str:
    """Path of the first of `names` that is installed."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        raise PartMissing(f"{names[0]}: not installed (Debian's package {package})")
    return found


@contextlib.contextmanager
def _no_services() -> Iterator[None]:
    """While packages are installed, none of their services is started."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink(missing_ok=True)


def install_debian(package: str, *names: str, tries: int = 3) -> str:
    """Path of a program, installed by apt when it is lacking and we are root on Debian."""
    with contextlib.suppress(PartMissing):
        return program(*names, package=package)
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return program(*names, package=package)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    said = ""
    for attempt in range(tries):
        for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", package]):
            with _no_services():
                done = subprocess.run(
                    ["apt-get", *command],
                    env=quiet,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    check=False,
                )
            said = (done.stdout + done.stderr).strip()[-400:]
        if done.returncode == 0:
            return program(*names, package=package)
        time.sleep(2 * attempt)
    raise PartMissing(f"{names[0]}: apt-get failed {tries} times: {said}")


def main() -> int:
    version = sys.argv[1] if len(sys.argv) > 1 else "4.3"
    parts: list[tuple[str, Callable[[], object]]] = [
        (f"Apache Kafka {VERSIONS[version]}", lambda: fetch_kafka(version).relative_to(ROOT)),
        (
            "Alertmanager",
            lambda: install_debian("prometheus-alertmanager", "prometheus-alertmanager", "alertmanager"),
        ),
        ("amtool", lambda: install_debian("prometheus-alertmanager", "amtool")),
        ("promtool", lambda: install_debian("prometheus", "promtool")),
    ]
    missing = 0
    for name, get in parts:
        try:
            print(f"{name}: {get()}")
        except PartMissing as reason:
            missing += 1
            print(f"{name}: missing, its tests are skipped. {reason}", file=sys.stderr)
    if missing and os.environ.get("CI") == "true":
        print("CI=true: every part must be there", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
