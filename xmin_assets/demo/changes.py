"""What happens to the sample tables after they were made: rows are inserted, updated and deleted.

Each change is one statement on some rows. Updates and deletes take rows from a random place on and skip those that
another session has locked, so sessions do not wait for each other, whatever they do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from psycopg2.extensions import cursor as Cursor

Kind = Literal["insert", "update", "delete"]


@dataclass(frozen=True)
class Change:
    """One statement; ``rows`` is its parameter."""

    table: str
    kind: Kind
    statement: str

    def apply(self, cursor: Cursor, rows: int) -> int:
        """Change up to ``rows`` rows (fewer near the end of the table) and return how many it were."""
        cursor.execute(self.statement, {"rows": rows})
        return cursor.rowcount


CHANGES = (
    Change(
        "public.securities",
        "insert",
        """
        INSERT INTO public.securities
        SELECT upper(left(replace(gen_random_uuid()::text, '-', ''), 12)) || '-S', 'NEW' || i || '-US',
               'New listing ' || i, 'USD', true, NULL, clock_timestamp()
        FROM generate_series(1, %(rows)s) AS i
        ON CONFLICT DO NOTHING
        """,
    ),
    Change(
        "public.securities",
        "update",
        """
        WITH chosen AS (
            SELECT fsym_id FROM public.securities
            WHERE fsym_id >= (SELECT upper(to_hex(16 + (random() * 200)::int)))
            ORDER BY fsym_id LIMIT %(rows)s FOR UPDATE SKIP LOCKED
        )
        UPDATE public.securities AS security
        SET price = coalesce(price, 100) * (0.98 + random()::numeric * 0.04), updated_at = clock_timestamp()
        FROM chosen WHERE security.fsym_id = chosen.fsym_id
        """,
    ),
    Change(
        "public.securities",
        "delete",
        """
        DELETE FROM public.securities WHERE fsym_id IN (
            SELECT fsym_id FROM public.securities
            WHERE fsym_id >= (SELECT upper(to_hex(16 + (random() * 200)::int)))
            ORDER BY fsym_id LIMIT %(rows)s FOR UPDATE SKIP LOCKED
        )
        """,
    ),
    Change(
        "public.orders",
        "insert",
        r"""
        INSERT INTO public.orders (reference, amount, note, details, tags, placed_at, warranty)
        SELECT gen_random_uuid(), round((random() * 1000)::numeric, 2),
               (ARRAY[E'line one\nline "two"', '\.', '\N', '', NULL, 'a,b;c'])[1 + i %% 6],
               jsonb_build_object('channel', 'web', 'item', i), ARRAY['new', NULL], clock_timestamp(), '1 year'
        FROM generate_series(1, %(rows)s) AS i
        """,
    ),
    Change(
        "public.orders",
        "update",
        """
        WITH chosen AS (
            SELECT order_id FROM public.orders
            WHERE order_id >= (SELECT (random() * 0.9 * max(order_id))::bigint FROM public.orders)
            ORDER BY order_id LIMIT %(rows)s FOR UPDATE SKIP LOCKED
        )
        UPDATE public.orders
        SET paid = NOT paid, receipt = decode(md5(random()::text), 'hex'),
            note = CASE WHEN note = '' THEN NULL ELSE '' END
        FROM chosen WHERE orders.order_id = chosen.order_id
        """,
    ),
    Change(
        "public.orders",
        "delete",
        """
        DELETE FROM public.orders WHERE order_id IN (
            SELECT order_id FROM public.orders
            WHERE order_id >= (SELECT (random() * 0.9 * max(order_id))::bigint FROM public.orders)
            ORDER BY order_id LIMIT %(rows)s FOR UPDATE SKIP LOCKED
        )
        """,
    ),
    Change(
        "public.customers",
        "insert",
        """
        INSERT INTO public.customers
        SELECT 'EMEA', (100000 + random() * 2000000000)::int, 'New customer ' || i, NULL, NULL, current_date
        FROM generate_series(1, %(rows)s) AS i
        ON CONFLICT DO NOTHING
        """,
    ),
    Change(
        "public.customers",
        "update",
        """
        WITH chosen AS (
            SELECT region, customer_no FROM public.customers
            WHERE region = 'APAC' AND customer_no >= (SELECT (random() * 40000)::int)
            ORDER BY region, customer_no LIMIT %(rows)s FOR UPDATE SKIP LOCKED
        )
        UPDATE public.customers AS customer SET email = md5(random()::text) || '@example.com'
        FROM chosen WHERE (customer.region, customer.customer_no) = (chosen.region, chosen.customer_no)
        """,
    ),
    Change(
        "public.customers",
        "delete",
        """
        DELETE FROM public.customers WHERE (region, customer_no) IN (
            SELECT region, customer_no FROM public.customers
            WHERE region = 'AMER' AND customer_no >= (SELECT (random() * 40000)::int)
            ORDER BY region, customer_no LIMIT %(rows)s FOR UPDATE SKIP LOCKED
        )
        """,
    ),
)
