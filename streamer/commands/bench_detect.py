"""`tripline bench detect`: false alarms, delays and cost of the detectors, beside others'; needs a checkout.

What it runs is `loadtest/detect`, which is beside the packages in a checkout and not in the wheel. The competitors run
in an environment of their own, see `loadtest/detect/peers.py`.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from schemas.errors import ConfigurationError

ROOT = Path(__file__).resolve().parents[2]


def detect(
    *,
    quick: bool = False,
    file: Path | None = None,
    seed: int = 0,
    only: Sequence[str] = (),
    peers: Path | None = None,
    jobs: int = 0,
    keep: Path | None = None,
    root: Path = ROOT,
) -> bool:
    """Run the benchmark; JSON into `file` (`-`: printed), a Markdown table into `loadtest/results`.

    only: groups, by default all; their table goes into `loadtest/out` then. peers: where the competitors are installed,
    by default `.venv-peers`, which is made where it lacks. jobs: processes of ours, by default one per core.
    keep: a folder of pieces that are done; a run that broke off goes on with those that lack.
    The answer says whether every bar is met.
    `ConfigurationError` when `root` is not a checkout, and for a group or an environment that there is not.
    """
    folder = root / "loadtest" / "detect"
    if not folder.is_dir():
        raise ConfigurationError(
            f"bench detect needs a checkout: {folder} is not there, and loadtest/ is not in the wheel; "
            "clone the repository and install it with `pip install -e .`"
        )
    if str(root) not in sys.path:
        sys.path.append(str(root))  # at the end: what is installed comes first
    try:
        report = importlib.import_module("loadtest.detect.report")
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"bench detect needs {error.name}: pip install {error.name}") from error
    found = report.bench(
        quick=quick,
        seed=seed,
        only=only,
        peers=peers,
        jobs=jobs,
        keep=keep,
        root=root,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    text = json.dumps(found, indent=1) + "\n"
    if file is not None and str(file) != "-":
        file.write_text(text, encoding="utf-8")
    table = root / "loadtest" / ("out" if only else "results") / _name(quick=quick, seed=seed)
    table.parent.mkdir(exist_ok=True)
    table.write_text(report.markdown(found), encoding="utf-8")
    met = all(bar["met"] for bar in found["bars"])
    if file is not None and str(file) == "-":
        print(text, end="")
        return met
    print("\n".join(report.verdicts(found["bars"])))
    print(f"{found['seconds']:.0f} s; the table is in {table.relative_to(root)}")
    return met


def _name(*, quick: bool, seed: int) -> str:
    return f"detect{'-quick' if quick else ''}{f'-seed-{seed}' if seed else ''}.md"
