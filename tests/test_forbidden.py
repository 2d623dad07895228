"""What our code never does, read from its syntax: run what data says, or let configured text be a program.

Why: a reference, an event, a configuration or a record of a topic may come from somebody else.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(path for name in ("schemas", "detectors", "streamer") for path in (ROOT / name).rglob("*.py"))

#: Modules that make objects of bytes by running what stands in them.
UNSAFE = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "jsonpickle"}
#: The one file that may read YAML, with a loader that makes nothing but plain values; and one that writes it.
YAML, WRITES_YAML = "streamer/documents.py", "streamer/commands/schema.py"
#: Files that may speak HTTP: the sink to Alertmanager, the worker's own page, and benchmarks that look at them.
SENDERS = (
    "streamer/sinks/",
    "streamer/metrics.py",
    "streamer/commands/measured_worker.py",
    "streamer/commands/bench_latency.py",
)


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def faults(source: str, *, where: str) -> Iterator[str]:
    """A sentence for each thing that our code never does."""
    for node in ast.walk(ast.parse(source)):
        line = f"{where}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            names = [module] if module else [alias.name for alias in node.names]
            tops = {name.split(".")[0] for name in names}
            if tops & UNSAFE:
                yield f"{line}: imports {', '.join(sorted(tops & UNSAFE))}: bytes of others would be run"
            if "yaml" in tops and where not in (YAML, WRITES_YAML):
                yield f"{line}: imports yaml; {YAML} reads YAML"
            if tops & {"aiohttp", "urllib", "requests", "http"} and not where.startswith(SENDERS):
                rest = {name for name in names if not name.startswith("urllib.parse")}
                if rest:
                    yield f"{line}: imports {', '.join(sorted(rest))}: nothing that an alert names is ever fetched"
        if isinstance(node, ast.Call):
            yield from _calls(node, line)


def _calls(node: ast.Call, line: str) -> Iterator[str]:
    called = ast.unparse(node.func)
    if called in ("eval", "exec", "compile", "os.system", "os.popen"):
        yield f"{line}: {called}() runs text"
    if called.endswith(("yaml.load", "yaml.unsafe_load", "yaml.full_load")):
        yield f"{line}: {called}() may make anything; use the loader of {YAML}"
    if any(word.arg == "shell" and not _false(word.value) for word in node.keywords):
        yield f"{line}: shell=True runs text"
    if any(word.arg == "allow_pickle" and not _false(word.value) for word in node.keywords):
        yield f"{line}: allow_pickle reads pickles"
    if isinstance(node.func, ast.Attribute) and node.func.attr in ("format", "format_map"):
        owner = node.func.value
        # A constant in capitals is a literal with a name; msgspec's `json.format` indents.
        named = owner
        while isinstance(named, ast.Subscript):
            named = named.value
        literal = isinstance(owner, ast.Constant) or (isinstance(named, ast.Name) and named.id.isupper())
        if not literal and ast.unparse(owner) != "msgspec.json":
            yield f"{line}: {ast.unparse(owner)}.{node.func.attr}(): a format string that is not ours can read anything"


def _false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


@pytest.mark.parametrize("path", FILES, ids=place)
def test_nothing_runs_what_data_or_configuration_says(path: Path) -> None:
    assert list(faults(path.read_text(encoding="utf-8"), where=place(path))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import yaml",
        "import urllib.request",
        "import yaml as y\ny.x\nimport numpy as np\nnp.load('f', allow_pickle=True)",
        "yaml.load(text)",
        "eval(text)",
        "subprocess.run(text, shell=True)",
        "settings.title.format(model=model)",
        "text.format_map(values)",
    ],
)
def test_the_law_finds_what_it_forbids(source: str) -> None:
    assert list(faults(source, where="streamer/wrong.py"))


def test_the_law_lets_literals_be() -> None:
    assert list(faults("'{}'.format(1)\nTEXT.format(a=1)\nimport urllib.parse", where="streamer/right.py")) == []
