"""Feast's entities, sources and views, generated from the definition table.

Import this only after `infra.clients`, which keeps torch out of Feast's import.

Every view carries the time its values hold (`as_of`) and the time it became known (`created_at`).
Batch and streaming features are separate views with one writer each, so that a nightly materialize
cannot overwrite what the stream worker pushed a second ago.
"""

from pathlib import Path
from typing import Any

from feast import Entity, FeatureView, Field, FileSource, PushSource
from feast.types import Array, Float64, Int64, String
from feast.value_type import ValueType

from features.batch import AS_OF, CREATED, files_of
from features.definitions import (
    HISTORY_AT,
    HISTORY_ITEMS,
    ITEM_STREAM,
    LAST_EVENT_AT,
    VERSION,
    VIEWS,
    View,
    stored_of,
)

JOIN_KEYS = ("user_id", "item_id", "category")

STREAM_EXTRAS = {
    "user_stream": {
        HISTORY_ITEMS: Array(String),
        HISTORY_AT: Array(Int64),
        LAST_EVENT_AT: Int64,
        VERSION: Int64,
    },
    "item_stream": dict.fromkeys((*ITEM_STREAM, VERSION), Int64),
}
"""Columns of the stream views beside their features: inputs of request features, not of the model."""


def feast_objects(offline: Path) -> list[Any]:
    """Everything to hand to `FeatureStore.apply`.

    Args:
        offline: folder with `<view>/<day>.parquet` per batch view and `<view>.parquet` per stream
            view; the files need not exist yet.

    Interview: Why a feature store, when a table and a cache would do?
        For two things that are easy to get wrong by hand: a point-in-time join that knows when a
        value became known, and one definition behind both the training set and the online read.
        Here the definition table generates the views, so neither can drift from it.
        Trade-off: its online read is slow for many entities, which is why items live in a matrix
        inside the serving process, and its SQLite store has no order, which features/store.py adds.
        Shown by: tests/features/test_views.py::test_every_stored_feature_is_a_field_of_its_view
    """
    return [*_entities().values(), *stored_views(offline).values()]


def stored_views(offline: Path) -> dict[str, Any]:
    """View name -> Feast's view, of all that are stored; who only reads needs no registry for them.

    Args:
        offline: as in `feast_objects`.
    """
    entities = _entities()
    return {
        view.name: _feast_view(view, offline, [entities[key] for key in view.entity])
        for view in VIEWS.values()
        if view.source != "request"
    }


def _entities() -> dict[str, Any]:
    return {key: Entity(name=key, value_type=ValueType.STRING) for key in JOIN_KEYS}


def _feast_view(view: View, offline: Path, entities: list[Any]) -> Any:
    source = FileSource(
        name=f"{view.name}_file",
        path=files_of(offline, view.name).resolve().as_posix(),
        timestamp_field=AS_OF,
        created_timestamp_column=CREATED,
    )
    fields = [
        Field(name=f.column, dtype=Int64 if f.dtype == "int" else Float64)
        for f in stored_of(view.name)
    ]
    if view.source == "stream":
        source = PushSource(name=f"{view.name}_push", batch_source=source)
        extras = STREAM_EXTRAS[view.name]
        fields += [Field(name=name, dtype=dtype) for name, dtype in extras.items()]
    keys = [Field(name=key, dtype=String) for key in view.entity]
    return FeatureView(
        name=view.name, entities=entities, ttl=view.ttl, schema=[*keys, *fields], source=source
    )
