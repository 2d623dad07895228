"""`import detectors` is free: names arrive when they are used, river and scipy never."""

from __future__ import annotations

import subprocess
import sys

import pytest

import detectors


@pytest.mark.parametrize("name", detectors.__all__)
def test_every_exported_name_is_there(name: str) -> None:
    assert getattr(detectors, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'drift_detected'"):
        _ = detectors.drift_detected


def test_importing_the_package_imports_no_numbers() -> None:
    code = "import detectors, sys; print(sorted({'numpy', 'scipy', 'river'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_using_all_of_it_needs_neither_river_nor_scipy() -> None:
    code = "import detectors, sys; [getattr(detectors, n) for n in detectors.__all__]; "
    code += "print(sorted({'scipy', 'river'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
