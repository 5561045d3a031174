"""Making and changing the target's types, and holding fast to what they mean until the rows are merged.

Types and extensions are made before rows are staged, in a transaction of their own: a value that is added to an enum
cannot be used before it is committed (https://www.postgresql.org/docs/current/sql-altertype.html). What they then mean
is remembered in the same transaction (`type_memory.py`), so a sync that fails afterwards leaves nothing that harms.
"""

from __future__ import annotations

import psycopg2
import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.config import Mode
from xmin_assets.errors import PlanOutdated, UnsupportedTable
from xmin_assets.postgres.connection import Database
from xmin_assets.postgres.error_translation import one_line
from xmin_assets.postgres.identifiers import QualifiedName, as_text
from xmin_assets.postgres.transaction import TransactionMode, transaction_on
from xmin_assets.postgres.types import still_means, types_named
from xmin_assets.replication.manifests.merge import MadeTypes, StagedTable
from xmin_assets.replication.manifests.plan import SourceSnapshot
from xmin_assets.replication.manifests.state import State
from xmin_assets.replication.manifests.table import Identity
from xmin_assets.replication.schema import type_memory
from xmin_assets.replication.schema.type_changes import TypePlan, plan_types
from xmin_assets.replication.schema.type_mapping import TargetTypes, read_target_types
from xmin_assets.replication.schema.type_meaning import misplaced
from xmin_assets.replication.state.migrations import ensure_schema, lock_schemas


def ensure_types(target: Database, snapshot: SourceSnapshot) -> MadeTypes:
    """Make the types that the snapshot's columns need in the target, as far as they are not there.

    Raises:
        PlanOutdated: they have become such that the rows of the last sync need to be copied again.
        XminAssetsError: see `plan_types`; or the role may not create them.
    """
    if not snapshot.source_selection.types:
        return MadeTypes()
    with transaction_on(target, TransactionMode.WRITE, f"{snapshot.table}: creating types") as cursor:
        target_types, planned = _look_again(cursor, snapshot)
        if planned.statements or not _remembered(target_types, planned):
            ensure_schema(cursor)
            lock_schemas(cursor)
            names = [QualifiedName(made.schema, made.name) for made in planned.maps]
            type_memory.lock(cursor, names, to_change=True)
            # Another sync may have done it, and another source's may have begun to use the type.
            target_types, planned = _look_again(cursor, snapshot)
            _require_as_planned(snapshot, target_types, planned)
            for statement in planned.statements:
                make_type(cursor, snapshot.table, statement)
            target_types, planned = _look_again(cursor, snapshot)
            type_memory.remember(cursor, planned.maps, snapshot.identity)
        if (
            snapshot.plan.mode is not Mode.FULL_SYNC
            and snapshot.state
            and misplaced(snapshot.state.types, planned.maps)
        ):
            raise _outdated(snapshot)
    return MadeTypes(planned.maps, target_types.with_parts(snapshot.source_selection))


def require_as_made(cursor: ext.cursor, staged: StagedTable) -> None:
    """Make sure that the types meant the same all the time while rows were loaded, and will until they are merged.

    Raises:
        PlanOutdated: they did not; what was loaded may be something else than what was read.
    """
    in_target = (*(staged.types.in_target if staged.types else ()), *staged.extract.snapshot.borrowed)
    if not in_target:
        return
    names = [made.qualified for made in in_target]
    type_memory.lock(cursor, names, to_change=False)
    now = types_named(cursor, names)
    if not all(still_means(made, now.get(made.qualified)) for made in in_target):
        raise _outdated(staged.extract.snapshot)


def copied_before(state: State | None, now: Identity) -> bool:
    """Return whether the last sync read the same database."""
    if state is None:
        return False
    before = state.identity
    return (before.system_identifier, before.database_oid) == (now.system_identifier, now.database_oid)


def _look_again(cursor: ext.cursor, snapshot: SourceSnapshot) -> tuple[TargetTypes, TypePlan]:
    target_types = read_target_types(cursor, snapshot.source_selection, snapshot.identity, snapshot.config.target_name)
    return target_types, plan_types(
        snapshot.table,
        snapshot.source_selection,
        target_types,
        allowed=snapshot.config.schema_changes == "apply",
        copied=copied_before(snapshot.state, snapshot.identity),
    )


def _require_as_planned(snapshot: SourceSnapshot, target_types: TargetTypes, now: TypePlan) -> None:
    """Do nothing to a type that another sync has changed since: it may have seen the source later than this one."""
    if not now.statements:
        return
    in_target = {made.qualified: made for made in target_types.with_parts(snapshot.source_selection)}
    same = all(still_means(made, in_target.get(made.qualified)) for made in snapshot.target_types)
    if not same or not {as_text(statement) for statement in now.statements} <= {*snapshot.plan.statements}:
        raise _outdated(snapshot)


def _remembered(target_types: TargetTypes, planned: TypePlan) -> bool:
    return all(target_types.memory.get(QualifiedName(made.schema, made.name)) == made for made in planned.maps)


def _outdated(snapshot: SourceSnapshot) -> PlanOutdated:
    return PlanOutdated(
        f"{snapshot.table}: a type of its columns was changed in the target after the sync was planned. Nothing was "
        "merged. Run the sync again."
    )


def make_type(cursor: ext.cursor, table: str, statement: sql.Composed) -> None:
    """Make or change a type of the target.

    Raises:
        UnsupportedTable: the role may not, or the target has something else of a name that comes along with the type,
            as a multirange does with its range.
    """
    try:
        cursor.execute(statement)
    except psycopg2.errors.InsufficientPrivilege as error:
        raise UnsupportedTable(
            f"{table}: the role may not make a type that the target needs: {one_line(error)} Run, as a role that may: "
            f"{as_text(statement)}"
        ) from error
    except (psycopg2.errors.DuplicateObject, psycopg2.errors.DuplicateFunction) as error:
        raise UnsupportedTable(
            f"{table}: a type that the target needs cannot be made, because a name is taken that comes along with it: "
            f"{one_line(error)} If the type was renamed at the source, rename it in the target, too; else drop what "
            "has the name there, or store the columns as text with type_overrides: {column: text}. The statement was: "
            f"{as_text(statement)}"
        ) from error
