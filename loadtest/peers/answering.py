"""Answers jobs in an environment of its own: one JSON job per line in, one JSON answer per line out."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any


def answer_all(jobs: Mapping[str, Callable[..., Any]]) -> None:
    """Answer until the input ends. Whatever a package prints goes to the error stream."""
    out, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        job = json.loads(line)
        try:
            answer = jobs[job.pop("do")](**job)
        except Exception as error:  # the rim: the asker decides what becomes of it
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=out, flush=True)
