"""How Placement is served: a gunicorn configuration file (https://docs.gunicorn.org/en/stable/settings.html).

Workers and addresses come by the command line (services.py). Each worker loads Placement, the arbiter does not: hence
the imports inside. bench/README.md has the figures.
"""

# ruff: noqa: PLC0415

from __future__ import annotations

import gc
import logging
from contextvars import ContextVar
from typing import Any

# gthread, which keeps connections, was no faster: 12.0 ms for candidates of one node instead of 12.3
worker_class = "sync"
COUNT_EVERY = 500  # requests; 10 ms with 10,000 nodes, 98 ms with 50,000 instances as well
SCHEMAS = 256
_tree: ContextVar[int | None] = ContextVar("tree", default=None)  # the root provider that candidates are asked of
# candidates of some thousand providers take their time on a slow machine
timeout = 120
graceful_timeout = 5
# a query of candidates may have 8 KiB; as much as gunicorn bounds
limit_request_line = 8190
# its own control socket would lie outside the state directory
control_socket_disable = True


def post_worker_init(_worker: Any) -> None:
    """What is loaded by now lives for ever: keep the collector off it. Halved the time for candidates."""
    _keep_sqlite_open()
    _count_rows()
    _sum_up_one_tree()
    _check_schemas_once()
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)


def post_request(worker: Any, _request: Any, _environment: Any, _response: Any) -> None:
    """The client has its answer by now."""
    if worker.nr % COUNT_EVERY == 0:
        _count_rows()


def _keep_sqlite_open() -> None:
    """oslo.db opens SQLite's file anew for each transaction, which then reads the tables' form again and, with a
    rollback journal, waits for the disk several times. One connection that stays and a write-ahead log halved the time
    for a batch of claims. `synchronous` stays FULL: what was answered outlives a loss of power, as before."""
    from sqlalchemy import event
    from sqlalchemy.pool import QueuePool

    engine = _sqlite()
    if engine is None:
        return

    @event.listens_for(engine, "connect")
    def _log_ahead(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")

    before = engine.pool
    # as `before.recreate()` would make it, but of the other class: there is no setting for that
    engine.pool = QueuePool(before._creator, dialect=before._dialect, _dispatch=before.dispatch)


def _count_rows() -> None:
    """Tell SQLite how many rows there are. Not knowing, it reads the inventories of all nodes to find those of one: at
    10,000 nodes candidates of one node then took twice as long as at 1,000. PostgreSQL does this by itself."""
    from sqlalchemy.exc import DBAPIError

    engine = _sqlite()
    if engine is None:
        return
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql("ANALYZE")
    except DBAPIError as problem:  # a full disk, say: it is only slower without
        logging.getLogger(__name__).warning("placement's tables were not analysed: %s", problem)


def _sum_up_one_tree() -> None:
    """Asked for candidates of one node, Placement sums up what is used of each resource on every node, and then looks
    at one sum: no database sees through that. Summing up one node's took 83 ms down to 8 with 50,000 instances."""
    import sqlalchemy
    from placement.db.sqlalchemy import models
    from placement.objects import research_context

    sum_up, find = research_context._usage_select, research_context.get_providers_with_resource
    used, nodes = models.Allocation.__table__.c, models.ResourceProvider.__table__.c

    def _usage_select(classes: Any) -> Any:
        root = _tree.get()
        if root is None:
            return sum_up(classes)
        inside = sqlalchemy.select(nodes.id).where(nodes.root_provider_id == root)
        return sum_up(classes).element.where(used.resource_provider_id.in_(inside)).subquery(name="usage")

    def get_providers_with_resource(context: Any, resource_class: int, amount: int, tree_root_id: Any = None) -> Any:
        asked = _tree.set(tree_root_id)
        try:
            return find(context, resource_class, amount, tree_root_id=tree_root_id)
        finally:
            _tree.reset(asked)

    research_context._usage_select = _usage_select
    research_context.get_providers_with_resource = get_providers_with_resource


def _check_schemas_once() -> None:
    """With each request Placement has its JSON schema itself checked against the schema of schemas: a quarter of a
    small request's time. They never change: each is checked once. Were some made anew each time, few would be kept."""
    import jsonschema

    validate, known = jsonschema.validate, dict[tuple[int, bool], tuple[Any, Any]]()

    def _validate(instance: Any, schema: Any, *more: Any, **named: Any) -> None:
        key = (id(schema), "format_checker" in named)
        if key not in known:
            validate(instance, schema, *more, **named)
            if len(known) < SCHEMAS:
                kind = jsonschema.validators.validator_for(schema)
                known[key] = (kind(schema, format_checker=jsonschema.FormatChecker() if key[1] else None), schema)
            return
        error = jsonschema.exceptions.best_match(known[key][0].iter_errors(instance))
        if error is not None:
            raise error

    jsonschema.validate = _validate


def _sqlite() -> Any:
    """Placement's engine, None when it is of another database."""
    from placement import db_api

    engine = db_api.get_placement_engine()
    return engine if engine.dialect.name == "sqlite" else None
