"""`tripline explain --window TIME` without a table: the arithmetic of a verdict that a worker has given."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import msgspec

from schemas.envelopes import TYPES, nine, open_envelope, unwrap
from schemas.errors import ConfigurationError
from schemas.layouts import View
from schemas.verdicts import FeatureReport, WindowReport
from streamer import spans
from streamer.commands.connecting import settings_of
from streamer.commands.explain import lines
from streamer.core.control import Control
from streamer.explaining import Explanation, explain_seen
from streamer.kafka.settings import KafkaSettings
from streamer.kafka.tailing import history, retained
from streamer.recalling import Recall


class Answer(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What could be said. explanation: None where only the report is left; sure: how far it is to be believed."""

    sure: str
    explanation: Explanation | None = None
    report: FeatureReport | None = None


def explain_stream(
    config: Path, *, model: str, feature: str = "", window: str, view: str = "", as_json: bool = False
) -> None:
    """Print how the verdict on `feature` in the pane that holds `window` came; without a feature, the strongest."""
    try:
        moment = spans.instant(window)
    except ValueError as error:
        raise ConfigurationError(f"--window {window}: {error}") from error
    column, _, value = view.partition("=")
    answer = asyncio.run(answered(settings_of(config), model, moment, feature=feature, view=View(column, value)))
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(answer)).decode())
        return
    if answer.explanation is not None:
        print("\n".join(lines(answer.explanation)))
    elif answer.report is not None:
        print("\n".join(_of_report(answer.report)))
    print(f"sure               {answer.sure}")


async def answered(settings: KafkaSettings, model: str, moment: int, *, feature: str, view: View) -> Answer:
    """Explanation or report of the pane that holds `moment`; `ConfigurationError` when there is neither."""
    control = Control()
    for record in await history(settings, "control"):
        control = control.apply(record.key or b"", record.value, offset=record.offset)
    layout = control.layout_at(model, moment)
    if layout is None:
        known = ", ".join(sorted(control.models)) or "none"
        raise ConfigurationError(f"--model {model}: control has no layout of it; there are {known}")
    start = moment // layout.pane_ms * layout.pane_ms
    report = await _report(settings, model, start, partition=layout.partition)
    found = await _recalled(settings, Recall(control=control, partition=layout.partition, model=model, start=start))
    name = f"the pane of {model} at {spans.rfc3339(start)}"
    if found.seen is not None:
        explanation = explain_seen(found.seen, start=start, feature=feature, view=view)
        said = _of(report, view, explanation.feature)
        return Answer(explanation=explanation, report=said, sure=_sure(found, explanation, said))
    if report is not None and report.n == 0:
        raise ConfigurationError(f"{name} has no events: no chart moved")
    said = _of(report, view, feature) or _strongest(report, view)
    if said is None:
        what = "has not closed yet" if found.first is not None and not found.passed else "is in no report any more"
        raise ConfigurationError(f"{name} {what}, and the recorded profiles do not hold it")
    return Answer(report=said, sure="the report only: retention has taken the profiles of that pane")


async def _recalled(settings: KafkaSettings, found: Recall) -> Recall:
    async with aclosing(retained(settings, "profiles", partition=found.partition)) as runs:
        async for records in runs:
            # In a thread: a week of profiles takes a while, and the consumer's heartbeat must not wait for it.
            await asyncio.to_thread(found.read, records)
            if found.passed:
                break
    return found


async def _report(settings: KafkaSettings, model: str, start: int, *, partition: int) -> WindowReport | None:
    # Appended after it happened, but for clocks that are off.
    since = start - 86_400_000
    async with aclosing(retained(settings, "windows", partition=partition, since=since)) as runs:
        async for records in runs:
            for record in records:
                if record.value is None or not (record.key or b"").startswith(f"{model}|".encode()):
                    continue
                if open_envelope(record.value).type != TYPES[WindowReport]:
                    continue  # on outcomes
                window = unwrap(record.value, WindowReport)
                if window.model == model and window.start <= start < window.end and window.revision == 0:
                    return window
    return None


def _of(report: WindowReport | None, view: View, feature: str) -> FeatureReport | None:
    features = [one for found in report.views if found.view == view for one in found.features] if report else []
    return next((one for one in features if one.feature == feature), None)


def _strongest(report: WindowReport | None, view: View) -> FeatureReport | None:
    features = [one for found in report.views if found.view == view for one in found.features] if report else []
    judged = [one for one in features if one.verdict is not None and one.verdict.limit]
    return max(judged, key=lambda one: one.verdict.value / one.verdict.limit if one.verdict else 0.0, default=None)


def _sure(found: Recall, explanation: Explanation, said: FeatureReport | None) -> str:
    verdict = None if said is None else said.verdict
    if verdict is not None and nine(explanation.value) == verdict.value and explanation.n == verdict.n:
        return "computed anew from the recorded profiles; equal to the window report, digit for digit"
    if verdict is not None:
        return (
            f"NOT exact: the window report says evidence {verdict.value:.9g} over {verdict.n:,} events; retention has "
            f"taken profiles that the charts had heard (the first that is left is at offset {found.first})"
        )
    if found.exact:
        return "computed anew from the recorded profiles, from the charts' beginning on; the window report is gone"
    return f"perhaps not exact: profiles reach back to offset {found.first} only, and the window report is gone"


def _of_report(said: FeatureReport) -> list[str]:
    out = [f"{said.feature}: {said.n:,} events, {100 * said.missing:.2f} % missing"]
    verdict = said.verdict
    if verdict is not None:
        out.append(f"verdict            {verdict.status} {verdict.direction} {verdict.shape}".rstrip())
        out.append(f"effective n        {verdict.effective_n:,.1f}")
        out.append(f"evidence Σ w·R     {verdict.value:,.4g} panes, limit {verdict.limit:,.6g}")
        out.append(f"reference          {verdict.reference}")
        if verdict.visible_change is not None:
            out.append(f"visible in a day   a change of {verdict.visible_change:.3g} sd, nine times of ten")
        if verdict.note:
            out.append(f"note               {verdict.note}")
    return out
