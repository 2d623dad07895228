"""What a fresh clone stands on: pinned requirements that fit pyproject.toml, and nothing that names a machine."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FILES = {
    "base.txt": [*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["build"]],
    "dev.txt": [
        *PROJECT["project"]["dependencies"],
        *PROJECT["dependency-groups"]["build"],
        *PROJECT["dependency-groups"]["dev"],
    ],
}


def pins(name: str) -> dict[str, list[Requirement]]:
    """Pinned requirements of a file by name; a package may be pinned once per Python version."""
    text = (ROOT / "requirements" / name).read_text(encoding="utf-8").replace("\\\n", "")
    found: dict[str, list[Requirement]] = {}
    for line in filter(None, text.splitlines()):
        requirement = Requirement(line.partition("--hash")[0].strip())
        found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


@pytest.mark.parametrize("name", FILES)
def test_every_dependency_is_pinned_to_a_version_that_fits(name: str) -> None:
    """When this fails: `make requirements`."""
    pinned = pins(name)
    wanted = [Requirement(text) for text in FILES[name]]
    unfit = [
        f"{want} is pinned to {pin.specifier}"
        for want in wanted
        for pin in pinned.get(canonicalize_name(want.name), [Requirement(f"{want.name}==0")])
        if not want.specifier.contains(str(pin.specifier).removeprefix("=="))
    ]
    assert unfit == []


@pytest.mark.parametrize("name", FILES)
def test_every_pin_has_hashes_and_no_address(name: str) -> None:
    text = (ROOT / "requirements" / name).read_text(encoding="utf-8")
    entries = text.replace("\\\n", "").splitlines()
    assert [line for line in entries if line and "--hash=sha256:" not in line] == []
    assert re.findall(r"\S*(?:://|--index|--extra-index|--find-links| @ )\S*", text) == []


def test_the_demo_needs_nothing_that_the_tests_do_not_pin_alike() -> None:
    base, dev = pins("base.txt"), pins("dev.txt")
    assert {name: [str(pin) for pin in base[name]] for name in base} == {
        name: [str(pin) for pin in dev.get(name, [])] for name in base
    }


def test_ci_runs_what_people_run() -> None:
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8").rstrip().endswith("make test")
    assert "make test" in (ROOT / "README.md").read_text(encoding="utf-8")
