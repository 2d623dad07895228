"""The naive user's table in Markdown."""

from __future__ import annotations

from typing import Any

from loadtest.detect.naive import BUDGET, NIGHTS, NULLS, TOOLS, interval
from loadtest.detect.naive_rows import CHANGES, REFERENCE_BATCHES

_NAMES = {"tripline": "Tripline", "evidently": "Evidently", "nannyml": "NannyML"}
_KINDS = ("numbers", "2 levels", "5 levels", "20 levels", "50 levels", "200 levels")


def markdown(found: dict[str, Any]) -> str:
    """Of one run: data sets, columns by kind, what real changes did, and thirty batches on end."""
    lines = found["lines"]
    versions = ", ".join(f"{name} {one}" for name, one in found["versions"].items()) or found["why"]
    length = "quick" if found["quick"] else "full"
    out = [
        "# A naive user's table",
        "",
        f"`python -m loadtest.detect.naive --{length} --seed {found['seed']}`, {found['cores']} cores; {versions}.",
        "",
        f"Independent rows; a nightly batch of n rows against the {REFERENCE_BATCHES} nights before it, the same rows",
        f"for every tool, {NULLS} batches without a change per reference, everything by default. Columns are normal,",
        "lognormal, uniform and Poisson numbers, and categories of 2, 5, 20, 50 and 200 levels, in turn. Tripline's",
        "verdict is an incident in the first batch that its chart sees (`reference build --batch-gap 6h`,",
        f"`pane: batch`, `backtest`); its budget is 1 false alarm per {BUDGET} batches for the whole data set: a share",
        f"of {1 / BUDGET:.3f}. Evidently: `DataDriftPreset`; its verdict on a data set is half of the columns, on a",
        "column its own choice of test. NannyML: `UnivariateDriftCalculator`, chunks by day; 5 % missing also by its",
        "`MissingValuesCalculator`. In brackets: 95 %.",
        "",
        f"## {_summary(lines)}",
        "",
        "## Nothing changed: data sets that are flagged",
        "",
        "| n | columns | Tripline | undecided columns | Evidently, half of columns | Evidently, any | NannyML, any |",
        "|---|---|---|---|---|---|---|",
    ]
    for n, features in dict.fromkeys((line["n"], line["features"]) for line in lines):
        one = {line["tool"]: line for line in lines if (line["n"], line["features"]) == (n, features)}
        ours, columns = one["tripline"], sum(one["tripline"]["columns"].values())
        out.append(
            f"| {n:,} | {features} | {_share(ours['flagged'], ours['sets'])} | {ours['undecided'] / columns:.0%} | "
            + " | ".join(
                _share(one[tool][key], one[tool]["sets"], one[tool]["why"])
                for tool, key in (("evidently", "flagged"), ("evidently", "any_column"), ("nannyml", "any_column"))
            )
            + " |"
        )
    out += ["", "## Nothing changed: columns that are flagged", "", f"| n | columns | tool | {' | '.join(_KINDS)} |"]
    out.append("|---" * (3 + len(_KINDS)) + "|")
    for line in lines:
        shares = [_plain(line["drifted"].get(kind, 0), line["columns"].get(kind, 0), line["why"]) for kind in _KINDS]
        out.append(f"| {line['n']:,} | {line['features']} | {_NAMES[line['tool']]} | {' | '.join(shares)} |")
    names = [change[0] for change in CHANGES]
    out += ["", f"## One column changed: found in its first batch (Tripline also: within {NIGHTS} batches)", ""]
    out += [f"| n | columns | tool | runs | {' | '.join(names)} |", "|---" * (4 + len(names)) + "|"]
    for line in (line for line in lines if line["tried"]):
        cells = [_plain(line["found"][name], line["tried"][name], line["why"]) for name in names]
        if line["within"]:
            week = (line["within"][name] / line["tried"][name] for name in names)
            cells = [f"{cell} ({share:.0%})" for cell, share in zip(cells, week, strict=True)]
        runs = max(line["tried"].values())
        out.append(f"| {line['n']:,} | {line['features']} | {_NAMES[line['tool']]} | {runs} | {' | '.join(cells)} |")
    out += ["", f"## Nothing changed, {BUDGET} batches on end, 10 columns: Tripline's false alarms per budget", ""]
    out += ["| n | budgets | false alarms | per budget | what they say |", "|---|---|---|---|---|"]
    for row in found["budgets"]:
        said = ", ".join(f"{what} ({count})" for what, count in row["said"].items())
        out.append(f"| {row['n']:,} | {row['runs']} | {row['alarms']} | {row['alarms'] / row['runs']:.2f} | {said} |")
    out += [
        "",
        "An open incident takes in what follows, so a column that stays wrong counts once. A category of 200 levels",
        "whose reference is 700 rows has levels that the reference has not met: their share is expected to be that of",
        "the levels met once (Good 1953). Before that was so, \"unseen up\" was said once in each of these budgets.",
    ]
    return "\n".join([*out, ""])


def _summary(lines: list[dict[str, Any]]) -> str:
    said = []
    for tool in TOOLS:
        sets = [line for line in lines if line["tool"] == tool and line["sets"]]
        key = "flagged" if tool == "tripline" else "any_column"
        if sets:
            flagged, total = sum(line[key] for line in sets), sum(line["sets"] for line in sets)
            what = "data sets" if tool == "tripline" else "with a column"
            said.append(f"{_NAMES[tool]} flags {flagged} of {total} {what}")
    return "Nothing changed: " + ", ".join(said)


def _share(hits: int, of: int, why: str = "") -> str:
    if not of:
        return f"n/a ({why[:60]})" if why else "n/a"
    low, high = interval(hits, of)
    return f"{hits / of:.3f} ({low:.3f}–{high:.3f})"


def _plain(hits: int, of: int, why: str = "") -> str:
    if not of:
        return "n/a" if why else ""
    return f"{hits / of:.0%}" if hits in (0, of) else f"{hits / of:.1%}"
