"""The layers, checked by a machine: `schemas <- detectors <- streamer`, and where the world may be touched.

Why: the same core runs live, in `backtest` and in a story only while it has no clock, no network and no environment.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(path for name in ("schemas", "detectors", "streamer") for path in (ROOT / name).rglob("*.py"))

#: What a layer may import of ours.
BELOW = {
    "schemas": {"schemas"},
    "detectors": {"schemas", "detectors"},
    "streamer": {"schemas", "detectors", "streamer"},
}

#: Modules through which time, threads, the environment or the network come in.
WORLD = {
    "aiohttp", "aiokafka", "asyncio", "confluent_kafka", "faust", "mode", "multiprocessing", "os", "prometheus_client",
    "signal", "socket", "subprocess", "threading", "time", "urllib.request", "http.client", "http.server", "requests",
}  # fmt: skip

#: Files and folders of `streamer` that may import them: the rim. Everything else is pure.
RIM = (
    "streamer/kafka/", "streamer/sinks/", "streamer/commands/", "streamer/agents.py", "streamer/app.py",
    "streamer/logs.py", "streamer/metrics.py", "streamer/topic_tables.py",
)  # fmt: skip

#: Third-party packages that the pure layers may import.
PURE_PACKAGES = {"numpy", "msgspec", "scipy", "orjson", "cloudevents", "zoneinfo", "tzdata", "river"}

#: Calls that bring in a clock or unseeded randomness without importing a module of the world.
CLOCKS = {"now", "utcnow", "today"}


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of every import of a file, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def of_the_world(name: str) -> str | None:
    """The module of `WORLD` that an import is, or lies in."""
    parts = name.split(".")
    return next((".".join(parts[:n]) for n in (1, 2) if ".".join(parts[:n]) in WORLD), None)


def is_rim(path: Path) -> bool:
    return place(path).startswith(RIM)


def misplaced(path: Path) -> list[str]:
    """A sentence for each import that stands in the wrong layer."""
    layer = path.relative_to(ROOT).parts[0]
    found: list[str] = []
    for line, name in imports(path):
        top = name.split(".")[0]
        at = f"{place(path)}:{line}"
        if top in BELOW and top not in BELOW[layer]:
            found.append(
                f"{at}: {layer} imports {name}; the layers are schemas <- detectors <- streamer: "
                f"what needs both belongs into {top}, what both need into {layer}"
            )
        world = of_the_world(name)
        if world and not is_rim(path):
            found.append(
                f"{at}: imports {world}; only the rim ({', '.join(RIM)}) may: pass its result in as an argument "
                "(time is int milliseconds), or move the file to the rim"
            )
    return found


def clocks(path: Path) -> list[str]:
    """A sentence for each reading of a clock, or draw of global randomness, in a pure file."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        owner, name = ast.unparse(node.func.value), node.func.attr
        at = f"{place(path)}:{node.lineno}"
        if name in CLOCKS and owner.split(".")[-1] in ("datetime", "date"):
            found.append(f"{at}: {owner}.{name}() reads a clock; time comes in with the records, as int milliseconds")
        if owner == "random" and name != "Random":
            found.append(f"{at}: random.{name}() is global; take a seeded random.Random as an argument")
        if owner in ("np.random", "numpy.random") and name not in ("default_rng", "Generator", "SeedSequence"):
            found.append(f"{at}: {owner}.{name}() is global; take a seeded numpy Generator as an argument")
        if name == "default_rng" and not node.args and not node.keywords:
            found.append(f"{at}: default_rng() has no seed; the same input must give the same bytes")
    return found


@pytest.mark.parametrize("path", FILES, ids=place)
def test_a_file_imports_only_what_its_layer_may(path: Path) -> None:
    assert misplaced(path) == []


@pytest.mark.parametrize("path", [path for path in FILES if not is_rim(path)], ids=place)
def test_pure_files_read_no_clock_and_draw_no_global_randomness(path: Path) -> None:
    assert clocks(path) == []


@pytest.mark.parametrize(
    "path", [path for path in FILES if place(path).startswith(("schemas/", "detectors/", "streamer/core/"))], ids=place
)
def test_the_pure_layers_depend_on_few_packages(path: Path) -> None:
    """Whoever reads the core needs to know numpy and msgspec, and nothing else."""
    tops = {name.split(".")[0] for _, name in imports(path)}
    assert tops - set(BELOW) - PURE_PACKAGES - sys.stdlib_module_names == set()


def test_names_of_test_files_are_one_of_a_kind() -> None:
    """Pytest imports them by their bare names: of two of one name, one run cannot hold both."""
    own = {"conftest.py", "__init__.py"}
    names = Counter(path.name for path in (ROOT / "tests").rglob("*.py") if path.name not in own)
    assert [name for name, count in names.items() if count > 1] == []


def test_a_misplaced_import_is_told_with_a_place_and_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    wrong = tmp_path / "detectors" / "wrong.py"
    wrong.parent.mkdir()
    wrong.write_text("from streamer.core import control\nimport os.path\n")
    assert [sentence.partition(";")[0] for sentence in misplaced(wrong)] == [
        "detectors/wrong.py:1: detectors imports streamer.core.control",
        "detectors/wrong.py:2: imports os",
    ]
    wrong.write_text("import datetime\nimport random\nrandom.random()\ndatetime.datetime.now(datetime.UTC)\n")
    assert [sentence.partition(";")[0] for sentence in clocks(wrong)] == [
        "detectors/wrong.py:3: random.random() is global",
        "detectors/wrong.py:4: datetime.datetime.now() reads a clock",
    ]
