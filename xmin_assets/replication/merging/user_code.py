"""What triggers and rules of the target's users have made of the rows that a merge wrote.

A row trigger may change a row or swallow it, and any code may write other rows. Nobody would see it: the state says
that the rows are the source's. So wherever such code fires, the merge looks at what it has written, in its own
transaction. Columns that users have added to the target are theirs to fill.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from psycopg2 import sql

from xmin_assets.errors import AlteredByTrigger
from xmin_assets.postgres import user_triggers
from xmin_assets.postgres.rows import fetch_one_as, fetch_value
from xmin_assets.postgres.user_triggers import Counted, UserCode
from xmin_assets.replication.merging.deletes import count_kept
from xmin_assets.replication.merging.keyless import count_unpaired
from xmin_assets.replication.merging.row_merge import RowMerge, Written
from xmin_assets.replication.merging.upsert import image_differs, is_distinct
from xmin_assets.replication.spool.csv_records import format_key


class _Unlike(NamedTuple):
    """Staged rows that the target does not have as they are."""

    rows: int
    place: str | None
    """The ctid of one of them in the staged table."""


class _Example(NamedTuple):
    """One of them, for people."""

    key: list[str]
    differs: list[bool] | None
    """Of the staged columns, in order; None where the target has no such row."""


def write_watched(
    rows: RowMerge, code: tuple[UserCode, ...], missing: sql.Composable | None, write: Callable[[], Written]
) -> Written:
    """Write the rows, and make sure that the target has them as they are staged, and no others were changed.

    Args:
        rows: what is merged; nothing was written yet.
        code: of the target's users, which fires.
        missing: the condition of rows that the source has lost (see `missing_rows`); None where they stay.
        write: writes the rows.

    Raises:
        AlteredByTrigger: the target has other rows.
    """
    watch = _Watch(rows, code, missing, write)
    rows.cursor.execute("SAVEPOINT rows")
    if rows.same_key is None:
        return watch.replace()
    written, counted = watch.merge()
    if counted is None or counted.inserted + counted.updated > written.inserted + written.updated + _marked(
        rows, written
    ):
        # Some row was written twice, or others were, which may be in columns that are not copied; or nobody counts.
        # Only what these rows had before tells. In most targets there are none, so nobody has asked for it yet.
        rows.cursor.execute("ROLLBACK TO SAVEPOINT rows")
        before = watch.checksum_of_others()
        written, _ = watch.merge()
        if watch.checksum_of_others() != before:
            raise watch.error("changed rows of the target that the source has not changed")
    return written


def _marked(rows: RowMerge, written: Written) -> int:
    return written.deleted if rows.selection.deletes.marks else 0


class _Watch:
    """The code of a target's users that fires in one merge, and what it does to the target's rows."""

    def __init__(
        self, rows: RowMerge, code: tuple[UserCode, ...], missing: sql.Composable | None, write: Callable[[], Written]
    ) -> None:
        self._rows = rows
        self._cursor = rows.cursor
        self._code = code
        self._missing = missing
        self._write = write

    def replace(self) -> Written:
        """Write rows that have no key, of which only the whole can be compared."""
        written = self._write()
        user_triggers.run_deferred(self._cursor, self._code)
        if unpaired := count_unpaired(self._rows):
            raise self.error(f"made {unpaired} rows of the target others than were written")
        return written

    def merge(self) -> tuple[Written, Counted | None]:
        """Write rows, and look for them; return what was written, and what the server, if it does, has counted."""
        before = user_triggers.counted(self._cursor, self._rows.target_oid)
        written = self._write()
        user_triggers.run_deferred(self._cursor, self._code)
        after = user_triggers.counted(self._cursor, self._rows.target_oid)
        counted = after.since(before) if after and before else None
        self._require_staged()
        if counted is not None:
            self._require_growth(written, counted)
        if self._missing is not None and (kept := count_kept(self._rows, self._missing)):
            raise self.error(f"kept {kept} rows in the target that the source has deleted", "deletes: ignore")
        return written, counted

    def checksum_of_others(self) -> int:
        """Return a sum of the copied values of all rows that are not to be written."""
        columns = (sql.Identifier("t", column.name) for column in self._rows.selection.columns)
        self._cursor.execute(
            sql.SQL("""
                SELECT coalesce(sum(pg_catalog.hashtextextended(ROW({columns})::text, 0)::numeric), 0) AS checksum
                  FROM {target} AS t
                 WHERE NOT EXISTS (SELECT FROM {staged} AS s WHERE {matched}) AND NOT ({missing})
            """).format(
                columns=sql.SQL(", ").join(columns),
                target=self._rows.target,
                staged=self._rows.staged,
                matched=self._rows.matched,
                missing=self._missing or sql.SQL("false"),
            )
        )
        return fetch_value(self._cursor, int)

    def _require_staged(self) -> None:
        rows = self._rows
        self._cursor.execute(
            sql.SQL("""
                SELECT count(*) AS rows, min(s.ctid)::text AS place
                  FROM {staged} AS s
                 WHERE NOT EXISTS (SELECT FROM {target} AS t WHERE {matched} AND NOT ({differs}))
            """).format(
                staged=rows.staged,
                target=rows.target,
                matched=rows.matched,
                differs=sql.SQL(" OR ").join(
                    [image_differs(rows.selection.columns, rows.types), *self._metadata_differences()]
                ),
            )
        )
        unlike = fetch_one_as(self._cursor, _Unlike)
        if not unlike.place:
            return
        example = self._example(unlike.place)
        where = format_key(rows.selection.key_columns, example.key)
        number = f"{unlike.rows} rows, such as the one" if unlike.rows > 1 else "the row"
        if example.differs is None:
            raise self.error(f"swallowed {number} with {where}, or gave it another key")
        changed = [name for name, differs in zip(self._names(), example.differs, strict=True) if differs]
        copied = {column.name for column in rows.selection.columns} - {*rows.selection.key}
        way_out = f"exclude_columns: [{', '.join(changed)}]" if copied.issuperset(changed) else ""
        raise self.error(f"changed {', '.join(changed)} in {number} with {where}", way_out)

    def _names(self) -> list[str]:
        marks = self._rows.selection.deletes.marks
        return [*self._rows.selection.staged_columns, *([self._rows.selection.deleted_at_column] if marks else [])]

    def _differences(self) -> list[sql.Composable]:
        """Build for each column the condition that a target row and a staged row differ in it."""
        columns = (image_differs([column], self._rows.types) for column in self._rows.selection.columns)
        return [*columns, *self._metadata_differences()]

    def _metadata_differences(self) -> list[sql.Composable]:
        selection = self._rows.selection
        conditions: list[sql.Composable] = [
            is_distinct(name) for name in selection.staged_columns[len(selection.columns) :]
        ]
        if selection.deletes.marks:
            conditions.append(sql.SQL("t.{} IS NOT NULL").format(sql.Identifier(selection.deleted_at_column)))
        return conditions

    def _example(self, place: str) -> _Example:
        texts = (sql.SQL("left(s.{}::text, 60)").format(sql.Identifier(name)) for name in self._rows.selection.key)
        self._cursor.execute(
            sql.SQL("""
                SELECT ARRAY[{texts}]::text[] AS key,
                       (SELECT ARRAY[{differences}] FROM {target} AS t WHERE {matched} LIMIT 1) AS differs
                  FROM {staged} AS s
                 WHERE s.ctid = {place}::tid
            """).format(
                texts=sql.SQL(", ").join(texts),
                differences=sql.SQL(", ").join(self._differences()),
                target=self._rows.target,
                staged=self._rows.staged,
                matched=self._rows.matched,
                place=sql.Literal(place),
            )
        )
        return fetch_one_as(self._cursor, _Example)

    def _require_growth(self, written: Written, counted: Counted) -> None:
        """Make sure that the target has grown by as many rows as were inserted, and not deleted.

        Where a row moves to another partition it is counted as deleted and inserted, so the difference is compared.
        """
        if not (counted.inserted or counted.updated or counted.deleted):
            return  # nothing was written
        removed = 0 if self._rows.selection.deletes.marks else written.deleted
        others = (counted.inserted - counted.deleted) - (written.inserted - removed)
        if others:
            raise self.error(f"{'inserted' if others > 0 else 'deleted'} {abs(others)} other rows of the target")

    def error(self, what: str, way_out: str = "") -> AlteredByTrigger:
        """Return what to say of it."""
        names = ", ".join(user_triggers.names_of(self._code))
        return AlteredByTrigger(
            f"{self._rows.table.label}: code that the target's users have put on it ({names}) {what}. Nothing was "
            f"merged. Set triggers: skip{f', or {way_out}' if way_out else ''}, or let the code leave alone what is "
            "copied."
        )
