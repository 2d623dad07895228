"""`tripline bench detect`: false alarms, delays and cost of the detectors, beside river's; needs a checkout.

What it runs is `loadtest/detect`, which is beside the packages in a checkout and not in the wheel.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

from schemas.errors import ConfigurationError

ROOT = Path(__file__).resolve().parents[2]


def detect(*, quick: bool = False, file: Path | None = None, seed: int = 0, root: Path = ROOT) -> None:
    """Run the benchmark; JSON into `file` (`-`: printed), a Markdown table into `loadtest/results`.

    `ConfigurationError` when `root` is not a checkout.
    """
    folder = root / "loadtest" / "detect"
    if not folder.is_dir():
        raise ConfigurationError(
            f"bench detect needs a checkout: {folder} is not there, and loadtest/ is not in the wheel; "
            "clone the repository and install it with `pip install -e .`"
        )
    if str(root) not in sys.path:
        sys.path.append(str(root))  # at the end: what is installed comes first
    report = importlib.import_module("loadtest.detect.report")
    found = report.bench(quick=quick, seed=seed, say=lambda line: print(line, file=sys.stderr, flush=True))
    text = json.dumps(found, indent=1) + "\n"
    if file is not None and str(file) != "-":
        file.write_text(text, encoding="utf-8")
    report.RESULTS.mkdir(exist_ok=True)
    name = f"detect-{'quick' if quick else 'full'}{f'-seed-{seed}' if seed else ''}.md"
    (report.RESULTS / name).write_text(report.markdown(found), encoding="utf-8")
    if file is not None and str(file) == "-":
        print(text, end="")
        return
    missed = [bar for bar in found["bars"] if not bar["met"]]
    print(f"{len(found['bars']) - len(missed)} of {len(found['bars'])} bars met, {found['seconds']:.0f} s; "
          f"the table is in loadtest/results/{name}")  # fmt: skip
    for bar in missed:
        print(f"  missed: {bar['bar']}: {bar['value']} > {bar['limit']} ({bar['measured']})")
