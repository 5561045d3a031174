"""Every operation knows its statement, says what it is, and survives the way through JSON."""

from __future__ import annotations

import pytest

from xmin_assets.config import Mode
from xmin_assets.postgres.identifiers import QualifiedName, as_text
from xmin_assets.replication.manifests.operations import (
    AddColumn,
    AddKey,
    AlterColumnType,
    DropColumn,
    DropDefault,
    DropKey,
    DropNotNull,
    Operation,
    RenameColumn,
)
from xmin_assets.replication.manifests.plan import Plan
from xmin_assets.replication.manifests.serialization import from_json, to_json

COLUMN_OPERATIONS = (
    AddColumn("a", "text", collation='pg_catalog."C"'),
    AddColumn("source_xmin", "bigint", is_metadata=True),
    RenameColumn("a", "b"),
    AlterColumnType("a", "bigint", "integer"),
    DropNotNull("a"),
    DropColumn("a"),
    DropDefault("a"),
)
KEY_OPERATIONS = (DropKey("t_pkey", ("id",)), AddKey(("id", "a"), is_primary=False))


@pytest.mark.parametrize(
    ("operation", "statement", "words", "rereads_rows"),
    [
        (
            COLUMN_OPERATIONS[0],
            'ALTER TABLE "public"."t" ADD COLUMN "a" text COLLATE pg_catalog."C"',
            "column a added",
            True,
        ),
        (
            COLUMN_OPERATIONS[1],
            'ALTER TABLE "public"."t" ADD COLUMN "source_xmin" bigint',
            "column source_xmin added",
            False,
        ),
        (
            COLUMN_OPERATIONS[2],
            'ALTER TABLE "public"."t" RENAME COLUMN "a" TO "b"',
            "column a renamed to b",
            False,
        ),
        (
            COLUMN_OPERATIONS[3],
            'ALTER TABLE "public"."t" ALTER COLUMN "a" TYPE bigint',
            "column a is now bigint",
            True,
        ),
        (
            COLUMN_OPERATIONS[4],
            'ALTER TABLE "public"."t" ALTER COLUMN "a" DROP NOT NULL',
            "column a no longer copied",
            False,
        ),
        (COLUMN_OPERATIONS[5], 'ALTER TABLE "public"."t" DROP COLUMN "a"', "column a dropped", False),
        (
            COLUMN_OPERATIONS[6],
            'ALTER TABLE "public"."t" ALTER COLUMN "a" DROP DEFAULT',
            "column a is another one now",
            True,
        ),
        (
            KEY_OPERATIONS[0],
            'ALTER TABLE "public"."t" DROP CONSTRAINT "t_pkey", ALTER COLUMN "id" DROP NOT NULL',
            "key t_pkey dropped",
            False,
        ),
        (
            KEY_OPERATIONS[1],
            (
                'ALTER TABLE "public"."t" ADD UNIQUE ("id", "a"), ALTER COLUMN "id" SET NOT NULL,'
                ' ALTER COLUMN "a" SET NOT NULL'
            ),
            "key (id, a) added",
            False,
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Operation) else "",
)
def test_what_an_operation_knows(operation: Operation, statement: str, words: str, rereads_rows: bool) -> None:
    assert as_text(operation.statement(QualifiedName("public", "t"))) == statement
    assert operation.describe() == words
    assert operation.rereads_rows is rereads_rows


def test_every_operation_is_in_this_test() -> None:
    assert {type(operation) for operation in (*COLUMN_OPERATIONS, *KEY_OPERATIONS)} == {*Operation.__subclasses__()}


def test_a_plan_carries_its_operations_through_json() -> None:
    """Three of them have the same fields, and are told apart all the same."""
    plan = Plan(
        Mode.FULL_SYNC,
        "first sync",
        column_operations=COLUMN_OPERATIONS,
        drop_key=KEY_OPERATIONS[0],
        add_key=KEY_OPERATIONS[1],
    )

    assert from_json(Plan, to_json(plan)) == plan
