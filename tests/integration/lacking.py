"""What a test does for want of a real part: skip and say which, or fail where every part must be there."""

from __future__ import annotations

import os

import pytest
from parts import PartMissing


def without(missing: PartMissing) -> None:
    """Skip for want of a part; in CI, where every part must be there, fail."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI allows no skip: {missing}", pytrace=False)
    pytest.skip(str(missing))
