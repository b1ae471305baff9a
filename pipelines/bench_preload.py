"""Imports that Feast puts off until a store is opened; a forked worker has them already."""

import infra.clients  # first: it keeps torch out of Feast's import
import infra.kafka_group
import infra.redis_store  # noqa: F401  # for the import itself

# isort: split
import feast.infra.offline_stores.duckdb
import feast.infra.online_stores.redis
import feast.infra.online_stores.sqlite
import feast.infra.passthrough_provider  # noqa: F401  # likewise
