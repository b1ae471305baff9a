"""Dead letters: records that were no events, with the reason, and their way back.

The stream worker sets them aside on the topic `dead` with their bytes, so that one bad record stops
nobody. A letter is a place in the log (partition, offset): a repeat of one, after a crash, is the
same letter. Who has mended it, or the worker, replays it: the record is appended to `events` anew,
where its event id makes it count once, however often it is replayed.
"""

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from features.errors import ContractError
from features.streaming import parsed
from features.streaming_fast import decoded
from infra.event_log import EventLog
from pipelines.stream_users import DEAD, EVENTS

BATCH = 1_000


@dataclass(frozen=True, slots=True)
class Letter:
    """One record that was refused."""

    partition: int
    offset: int
    key: str
    reason: str
    record: str
    """As text; bytes that are no UTF-8 are shown as \\xNN. A mended letter has its event here."""

    raw: str
    """The bytes as they came, base64."""

    replayed: bool = False

    @property
    def place(self) -> tuple[int, int]:
        """What tells letters apart."""
        return self.partition, self.offset


def letters(log: EventLog) -> list[Letter]:
    """All that were ever set aside, each once, in order.

    Raises:
        OSError: the log does not answer.
    """
    found: dict[tuple[int, int], Letter] = {}
    back: set[tuple[int, int]] = set()
    for value in _values(log):
        place = (value["partition"], value["offset"])
        if "replayed" in value:
            back.add(place)
            continue
        raw = base64.b64decode(value["bytes"])
        text = raw.decode(errors="backslashreplace")
        found.setdefault(place, Letter(*place, value["key"], value["reason"], text, value["bytes"]))
    return [_marked(letter, letter.place in back) for _, letter in sorted(found.items())]


def replay(log: EventLog, wanted: Iterable[Letter]) -> dict[str, Any]:
    """Append the letters' records to the log again, those that are events now.

    Args:
        log: written: `events`, and on `dead` that they were replayed.
        wanted: letters, mended or not; one that was replayed before is left out.

    Returns:
        replayed: how many; still_bad: place and reason of the others.

    Raises:
        OSError: the log does not answer; replaying again is safe.

    Interview: A producer wrote nonsense for an hour. How do you get those events back?
        They wait on a topic of their own with reason, offset and bytes. Mend them in a file,
        replay the file: each is checked as the worker checks it, appended to the log as a new
        record and folded like any other. Replaying twice is harmless, because it is the event id
        that counts, and not the record.
        Trade-off: an event that is older than the allowed lateness by then is late: it reaches
        the lake and the next batch features, and not the stream.
        Shown by: tests/pipelines/test_stream_dead.py::test_mended_letters_count_once_however_often_replayed
    """
    done = {letter.place for letter in letters(log) if letter.replayed}
    records: list[tuple[str, Mapping[str, Any]]] = []
    notes: list[tuple[int, str]] = []
    still_bad = []
    for letter in wanted:
        if letter.place in done:
            continue
        try:
            value = decoded(letter.record.encode(errors="surrogatepass"))
            key = value.get("user_id") if isinstance(value, dict) else None
            parsed(value, str(key))
        except (ContractError, UnicodeEncodeError) as error:
            still_bad.append(
                {"partition": letter.partition, "offset": letter.offset, "reason": str(error)}
            )
            continue
        records.append((str(key), value))
        note = {"partition": letter.partition, "offset": letter.offset, "replayed": True}
        notes.append((letter.partition, json.dumps(note)))
    if records:
        log.append(EVENTS, records)
        log.append_at(DEAD, notes)  # after the events: a crash in between replays them again
    return {"replayed": len(records), "still_bad": still_bad}


def write_letters(path: Path, found: Iterable[Letter]) -> None:
    """One JSON object a line, to be mended and read again: `record` is what counts."""
    path.write_text("".join(json.dumps(asdict(letter)) + "\n" for letter in found))


def read_letters(path: Path) -> list[Letter]:
    """What `write_letters` wrote, mended; `record` may be text or the event itself.

    Raises:
        ContractError: a line is no letter.
    """
    found = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            value = json.loads(line)
            record = value["record"]
            value["record"] = record if isinstance(record, str) else json.dumps(record)
            found.append(Letter(**value))
        except (ValueError, TypeError, KeyError) as error:
            raise ContractError(f"{path.name}, line {number} is no dead letter: {error}") from None
    return found


def _marked(letter: Letter, replayed: bool) -> Letter:
    return Letter(**{**asdict(letter), "replayed": replayed})


def _values(log: EventLog) -> Iterator[Mapping[str, Any]]:
    for partition in range(log.partitions):
        offset = 0
        while records := log.read(DEAD, partition, offset, BATCH):
            yield from (r.value for r in records if "forgotten" not in r.value)
            offset = records[-1].offset + 1
