"""The schema in the target that holds this project's own tables: its versions, and the way from each to the next."""

from __future__ import annotations

import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.errors import TerminalError
from xmin_assets.postgres.rows import fetch_value

SCHEMA = "xmin_assets"

# One statement list per version; a version that has shipped is never edited.
# Up to version 3 a WAL position with its transaction id was an array of two in `pairs` and in `unflushed.pair`.
FACTS_WITH_WAL_POSITIONS = """
CASE WHEN facts ? 'pairs' THEN
    facts - 'pairs'
    || pg_catalog.jsonb_build_object(
        'wal_positions',
        (SELECT coalesce(pg_catalog.jsonb_agg(
                    pg_catalog.jsonb_build_object('lsn', p.pair -> 0, 'next_xid', p.pair -> 1) ORDER BY p.number), '[]')
           FROM pg_catalog.jsonb_array_elements(facts -> 'pairs') WITH ORDINALITY AS p (pair, number)))
    || CASE WHEN pg_catalog.jsonb_typeof(facts -> 'unflushed') = 'object' THEN
        pg_catalog.jsonb_build_object(
            'unflushed',
            (facts -> 'unflushed') - 'pair'
            || pg_catalog.jsonb_build_object(
                'position',
                CASE WHEN pg_catalog.jsonb_typeof(facts #> '{unflushed,pair}') = 'array' THEN
                    pg_catalog.jsonb_build_object('lsn', facts #> '{unflushed,pair,0}',
                                                  'next_xid', facts #> '{unflushed,pair,1}')
                END))
       ELSE '{}'
       END
ELSE facts
END
"""
"""`facts` of a state as this release reads them, whichever release wrote them."""

_MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE xmin_assets.state (
        target_schema text NOT NULL,
        target_table text NOT NULL,
        revision int8 NOT NULL,
        sync_id text NOT NULL,
        watermark int8 NOT NULL,
        resync text,
        max_xmin int8 NOT NULL,
        rows int8 NOT NULL,
        source_table text NOT NULL,
        target_oid oid NOT NULL,
        merged_at timestamptz NOT NULL,
        facts jsonb NOT NULL,
        result jsonb NOT NULL,
        PRIMARY KEY (target_schema, target_table)
    );
    COMMENT ON TABLE xmin_assets.state IS
        'One row per table replicated by xmin_assets: the sync that the table equals, and where the next one resumes.';
    COMMENT ON COLUMN xmin_assets.state.watermark IS
        'Every source transaction below this 64-bit id was finished in the snapshot that was merged.';
    COMMENT ON COLUMN xmin_assets.state.resync IS 'Why the next sync reads everything; NULL where it need not.';
    COMMENT ON COLUMN xmin_assets.state.max_xmin IS 'Highest 64-bit xmin seen among the rows; for people.';
    """,
    """
    CREATE TABLE xmin_assets.history (
        target_schema text NOT NULL,
        target_table text NOT NULL,
        number int8 NOT NULL,
        sync_id text NOT NULL,
        mode text NOT NULL,
        reason text NOT NULL,
        rows_extracted int8 NOT NULL,
        rows_inserted int8 NOT NULL,
        rows_updated int8 NOT NULL,
        rows_deleted int8 NOT NULL,
        rows_unchanged int8 NOT NULL,
        rows int8 NOT NULL,
        watermark_before int8,
        watermark int8 NOT NULL,
        max_xmin int8 NOT NULL,
        bytes_extracted int8 NOT NULL,
        seconds_snapshot float8 NOT NULL,
        seconds_extract float8 NOT NULL,
        seconds_stage float8 NOT NULL,
        seconds_merge float8 NOT NULL,
        target_oid oid NOT NULL,
        target_xid int8 NOT NULL,
        merged_at timestamptz NOT NULL,
        PRIMARY KEY (target_schema, target_table, number)
    );
    COMMENT ON TABLE xmin_assets.history IS
        'One row per merge, the newest ones of each table: what it did, and the transaction that did it.';
    COMMENT ON COLUMN xmin_assets.history.target_xid IS
        '64-bit id of the merge transaction in this database: the xmin of every row that it wrote.';
    """,
    """
    CREATE TABLE xmin_assets.types (
        target_schema text NOT NULL,
        target_type text NOT NULL,
        system_identifier text NOT NULL,
        database_oid int8 NOT NULL,
        source_oid int8 NOT NULL,
        facts jsonb NOT NULL,
        PRIMARY KEY (target_schema, target_type, system_identifier, database_oid, source_oid)
    );
    COMMENT ON TABLE xmin_assets.types IS
        'One row per enum or composite of a source: which of its labels or attributes each of the target''s is.';
    """,
    f"""
    UPDATE xmin_assets.state SET facts = {FACTS_WITH_WAL_POSITIONS} WHERE facts ? 'pairs';
    """,
    """
    CREATE TABLE IF NOT EXISTS xmin_assets.failures (
        target_schema text NOT NULL,
        target_table text NOT NULL,
        failed_at timestamptz NOT NULL,
        error text NOT NULL,
        PRIMARY KEY (target_schema, target_table)
    );
    COMMENT ON TABLE xmin_assets.failures IS
        'The last sync of each table that failed; what was merged after it counts.';
    """,
    """
    CREATE TABLE IF NOT EXISTS xmin_assets.verifications (
        target_schema text NOT NULL,
        target_table text NOT NULL,
        verified_at timestamptz NOT NULL,
        missing int8 NOT NULL,
        extra int8 NOT NULL,
        different int8 NOT NULL,
        pending int8 NOT NULL,
        sample float8,
        PRIMARY KEY (target_schema, target_table)
    );
    COMMENT ON TABLE xmin_assets.verifications IS
        'What the last comparison of each table with its source found.';
    """,
    """
    CREATE TABLE IF NOT EXISTS xmin_assets.loads (
        target_schema text NOT NULL,
        target_table text NOT NULL,
        load_id text NOT NULL UNIQUE,
        load_table text NOT NULL,
        bytes int8 NOT NULL,
        started_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
        updated_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
        facts jsonb NOT NULL,
        PRIMARY KEY (target_schema, target_table)
    );
    COMMENT ON TABLE xmin_assets.loads IS
        'One row per load by chunks that is under way: where it began, and the table that it fills.';
    CREATE TABLE IF NOT EXISTS xmin_assets.loaded_ranges (
        load_id text NOT NULL,
        filenode int8 NOT NULL,
        first_block int8 NOT NULL,
        end_block int8 NOT NULL,
        rows int8 NOT NULL,
        bytes int8 NOT NULL,
        max_xid int8 NOT NULL,
        PRIMARY KEY (load_id, filenode, first_block)
    );
    COMMENT ON TABLE xmin_assets.loaded_ranges IS
        'Blocks of the source whose rows a load has in its table already; end_block is not one of them.';
    """,
)

# The table is read, not to_regnamespace(): that would answer from a cache in which a schema may be missing that another
# transaction has just made.
_VERSION = """
SELECT pg_catalog.obj_description(oid, 'pg_namespace') FROM pg_catalog.pg_namespace WHERE nspname = 'xmin_assets'
"""

_IS_EMPTY = """
SELECT NOT EXISTS (
           SELECT FROM pg_catalog.pg_class c
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = 'xmin_assets') AS is_empty
"""

_VERSION_PREFIX = "xmin_assets state, version "


def schema_version(cursor: ext.cursor) -> int:
    """Return the version of the schema ``xmin_assets`` in this database; 0 if there is none.

    Raises:
        TerminalError: the schema is of a newer release, or is somebody else's.
    """
    cursor.execute(_VERSION)
    found = cursor.fetchone()
    if found is None:
        return 0
    (comment,) = found
    text = (comment or "").removeprefix(_VERSION_PREFIX)
    if comment is None and _is_empty(cursor):
        return 0  # made by an administrator for a role that may not create schemas
    if comment is None or text == comment or not text.isdigit():
        raise TerminalError(
            "The target database has a schema xmin_assets that this project did not make. Rename or drop that schema."
        )
    if int(text) > len(_MIGRATIONS):
        raise TerminalError(
            f"The target's schema xmin_assets is of version {text}, this release knows {len(_MIGRATIONS)}. "
            "Upgrade xmin-assets on this machine."
        )
    return int(text)


def _is_empty(cursor: ext.cursor) -> bool:
    cursor.execute(_IS_EMPTY)
    return fetch_value(cursor, bool)


def ensure_schema(cursor: ext.cursor) -> None:
    """Create or migrate the schema, in the cursor's transaction.

    Raises:
        TerminalError: see `schema_version`.
    """
    if schema_version(cursor) == len(_MIGRATIONS):
        return
    lock_schemas(cursor)
    version = schema_version(cursor)
    cursor.execute(_VERSION)
    if cursor.fetchone() is None:
        cursor.execute("CREATE SCHEMA xmin_assets")
    for migration in _MIGRATIONS[version:]:
        cursor.execute(migration)
    cursor.execute(
        sql.SQL("COMMENT ON SCHEMA xmin_assets IS {}").format(sql.Literal(f"{_VERSION_PREFIX}{len(_MIGRATIONS)}"))
    )


def lock_schemas(cursor: ext.cursor) -> None:
    """Let one transaction at a time create schemas, so that two first syncs do not both create the same one."""
    cursor.execute("SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('xmin_assets'), 0)")
