"""`tripline dlq`: what was dropped is seen, and written again exactly once, over a real broker and a real worker."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition
from brokers import Kafka, eventually
from deployments import Deployment, event
from fleets import read_topic

from schemas.errors import TaskTaken
from streamer.kafka.letters import HEADER, Replay, originals, read_letters
from streamer.letters import Wanted, place_of

STRANGER = event(1_000).replace(b'"m"', b'"n"')
APPLIED = 'tripline_events_applied_total{stage="profiling"}'
UNKNOWN = 'tripline_events_dropped_total{reason="unknown_model",stage="profiling"}'


async def delete_before(bootstrap: str, topic: str, *, partition: int, offset: int) -> None:
    """What retention would do."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.delete_records({TopicPartition(topic, partition): RecordsToDelete(offset)})
    await admin.close()


def test_events_of_a_model_that_came_late_are_written_again_once(kafka: Kafka, prefix: str, tmp_path: Path) -> None:
    """Model n is not configured while its events come; they are counted once it is, and never twice.

    Letters of other reasons stay; what retention took is named, and is exit code 1.
    """
    with Deployment(kafka, prefix, tmp_path) as deployment:
        deployment.create()
        deployment.run()
        deployment.send([*(event(i * 1_000) for i in range(20)), b"{oops", *[STRANGER] * 10])
        eventually(lambda: deployment.metric(UNKNOWN) == 10, within=30)
        shown = deployment.tripline("dlq", "show", "--json", "--reason", "unknown_model", "--payload", "--limit", "3")
        assert shown.returncode == 0, shown.stderr
        answer = json.loads(shown.stdout)
        assert [(one["model"], one["replayed"], one["record"]) for one in answer["letters"]] == [
            ("n", False, STRANGER.decode())
        ] * 3
        assert (answer["summary"]["unknown_model"]["letters"], list(answer["summary"])) == (10, ["unknown_model"])

        text = deployment.file.read_text()
        deployment.file.write_text(text + text[text.index("  m: {") :].replace("  m: {", "  n: {"))
        assert deployment.tripline("apply").returncode == 0
        eventually(lambda: "n: " not in deployment.tripline("apply").stdout, within=20)
        dry = deployment.tripline("dlq", "replay", "--reason", "unknown_model")
        assert "10 records (" in dry.stdout
        assert dry.stdout.endswith("nothing was written; --yes writes\n")
        assert dry.returncode == 0
        before = len(read_topic(deployment.settings, deployment.input))

        settings = deployment.settings
        one = next(iter(asyncio.run(read_letters(settings, Wanted(reason="unknown_model"))).open()))
        asyncio.run(delete_before(kafka.bootstrap, deployment.input, partition=one.partition, offset=one.offset + 1))
        left = len(read_topic(settings, deployment.input))
        assert left < before
        for written in (9, 0):
            again = deployment.tripline("dlq", "replay", "--reason", "unknown_model", "--yes", "--json")
            assert again.returncode == 1
            answer = json.loads(again.stdout)
            assert answer["written"] == written
            assert [why.split(" (")[0] for why in answer["lost"].values()] == ["retention took it"]
            assert list(answer["lost"]) == [str(place_of(one))]
        eventually(lambda: deployment.metric(APPLIED) == 29, within=30)
        assert deployment.metric(UNKNOWN) == 10
        found = read_topic(settings, deployment.input)
        assert len(found) == left + 9
        copies = [record for record in found if dict(record.headers).get(HEADER)]
        assert [record.value for record in copies] == [STRANGER] * 9
        assert {(dict(record.headers)[HEADER].decode().split("|")[1]) for record in copies} == {
            str(record.partition) for record in copies
        }
        notes = [json.loads(record.value)["data"] for record in read_topic(settings, f"{prefix}audit")]
        (note,) = [note for note in notes if note["reason"] == "replayed"]
        assert (note["decision"], note["details"]["records"]) == ("9 records written again", 9)


def test_two_replays_at_once_write_each_record_once(kafka: Kafka, prefix: str, tmp_path: Path) -> None:
    """The second one to begin ends the first, whatever that was about to write, and sees all that it has written."""
    with Deployment(kafka, prefix, tmp_path) as deployment:
        deployment.create()
        deployment.run()
        deployment.send([STRANGER] * 6)
        eventually(lambda: deployment.metric(UNKNOWN) == 6, within=30)
        settings = deployment.settings

        async def race() -> int:
            # The client library keeps futures of the fenced producer that nobody asks for; they are no news.
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
            async with Replay(settings) as first, Replay(settings) as second:
                letters = (await read_letters(settings, Wanted())).open()
                records = (await originals(settings, letters)).found
                with pytest.raises(TaskTaken):
                    await first.write(letters, records, by="first")
                return await second.write(letters, records, by="second")

        assert asyncio.run(race()) == 6
        assert asyncio.run(read_letters(settings, Wanted())).open() == [] or deployment.metric(UNKNOWN) > 6
        copies = [record for record in read_topic(settings, deployment.input) if dict(record.headers).get(HEADER)]
        assert len(copies) == 6


def test_a_record_of_another_log_is_named_and_left_alone(kafka: Kafka, prefix: str, tmp_path: Path) -> None:
    """A topic that was made anew has other records at the same places: the hash tells."""
    with Deployment(kafka, prefix, tmp_path) as deployment:
        deployment.create()
        deployment.run()
        deployment.send([STRANGER])
        eventually(lambda: deployment.metric(UNKNOWN) == 1, within=30)
    (letter,) = asyncio.run(read_letters(deployment.settings, Wanted())).open()
    letter.sha256 = "0" * 64
    found = asyncio.run(originals(deployment.settings, [letter]))
    assert found.found == {}
    assert found.lost[place_of(letter)].startswith("has another content than the letter's hash")
