"""Feast's views are generated: every stored feature is there, with its type, TTL and sources."""

from pathlib import Path

from infra.clients import open_feast  # first: it keeps torch out of Feast's import

# isort: split
from feast.types import Float64, Int64

from features.definitions import VIEWS, stored_of
from features.repo.views import STREAM_EXTRAS, feast_objects
from infra.workspace import Workspace
from pipelines.materialize import apply_views


def views(offline: Path) -> dict:
    return {o.name: o for o in feast_objects(offline) if type(o).__name__ == "FeatureView"}


def test_every_stored_feature_is_a_field_of_its_view(tmp_path):
    found = views(tmp_path)
    assert set(found) == {view.name for view in VIEWS.values() if view.source != "request"}
    for name, view in found.items():
        types = {field.name: field.dtype for field in view.features}
        expected = {f.column: Int64 if f.dtype == "int" else Float64 for f in stored_of(name)}
        assert types == expected | STREAM_EXTRAS.get(name, {})
        assert tuple(view.entities) == VIEWS[name].entity
        assert view.ttl == VIEWS[name].ttl
        assert view.batch_source.created_timestamp_column == "created_at"
        file = f"{name}/*.parquet" if VIEWS[name].source == "batch" else f"{name}.parquet"
        assert view.batch_source.path == (tmp_path / file).as_posix()


def test_applying_twice_changes_nothing(tmp_path):
    workspace = Workspace(tmp_path, "small")
    store = open_feast(workspace)
    apply_views(store, workspace.offline)
    before = {view.name: view for view in store.list_feature_views()}
    apply_views(store, workspace.offline)
    after = {view.name: view for view in open_feast(workspace).list_feature_views()}
    assert after == before
    assert set(after) == {view.name for view in VIEWS.values() if view.source != "request"}
