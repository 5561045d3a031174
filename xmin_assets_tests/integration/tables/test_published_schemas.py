"""Known applications' tables and their migrations, step by step, with targets that have the same schema.

The schemas are shortened. What is left of them are the keys, the foreign keys, the triggers and the types.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import pytest

from xmin_assets.replication.sync import plan_tables, sync_tables
from xmin_assets.replication.verification.verify import verify_tables
from xmin_assets_tests.replica import Replica

PAGILA = """
CREATE TYPE mpaa_rating AS ENUM ('G', 'PG', 'R');
CREATE DOMAIN year AS integer CONSTRAINT year_check CHECK (VALUE >= 1901 AND VALUE <= 2155);
CREATE FUNCTION last_updated() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.last_update = CURRENT_TIMESTAMP; RETURN NEW; END $$;
CREATE TABLE language (language_id serial PRIMARY KEY, name char(20) NOT NULL, last_update timestamptz DEFAULT now());
CREATE TABLE film (
    film_id serial PRIMARY KEY, title text NOT NULL, description text, release_year year,
    language_id integer NOT NULL REFERENCES language ON UPDATE CASCADE ON DELETE RESTRICT,
    rental_duration smallint DEFAULT 3 NOT NULL, rental_rate numeric(4, 2) DEFAULT 4.99 NOT NULL,
    rating mpaa_rating DEFAULT 'G'::mpaa_rating, last_update timestamptz DEFAULT now() NOT NULL,
    special_features text[], fulltext tsvector NOT NULL);
CREATE INDEX film_fulltext_idx ON film USING gist (fulltext);
CREATE TABLE customer (
    customer_id serial PRIMARY KEY, email text, activebool boolean DEFAULT true NOT NULL,
    last_update timestamptz DEFAULT now(), active integer);
CREATE TABLE payment (
    payment_id serial NOT NULL, customer_id integer NOT NULL, amount numeric(5, 2) NOT NULL,
    payment_date timestamptz NOT NULL, PRIMARY KEY (payment_date, payment_id)) PARTITION BY RANGE (payment_date);
CREATE TABLE payment_01 PARTITION OF payment FOR VALUES FROM ('2022-01-01 00:00Z') TO ('2022-02-01 00:00Z');
CREATE TABLE payment_02 PARTITION OF payment FOR VALUES FROM ('2022-02-01 00:00Z') TO ('2022-03-01 00:00Z');
CREATE INDEX payment_01_customer ON payment_01 (customer_id);
ALTER TABLE payment_01 ADD CONSTRAINT payment_01_fkey FOREIGN KEY (customer_id) REFERENCES customer;
ALTER TABLE payment_02 ADD CONSTRAINT payment_02_fkey FOREIGN KEY (customer_id) REFERENCES customer;
CREATE TRIGGER film_fulltext_trigger BEFORE INSERT OR UPDATE ON film FOR EACH ROW
    EXECUTE FUNCTION tsvector_update_trigger('fulltext', 'pg_catalog.english', 'title', 'description');
CREATE TRIGGER last_updated BEFORE UPDATE ON film FOR EACH ROW EXECUTE FUNCTION last_updated();
CREATE TRIGGER last_updated BEFORE UPDATE ON customer FOR EACH ROW EXECUTE FUNCTION last_updated();
"""
PAGILA_ROWS = """
INSERT INTO language (name) VALUES ('English'), ('Italian');
INSERT INTO film (title, description, release_year, language_id, rating, special_features)
SELECT 'T ' || i, 'An epic drama', 2000 + i, 1, 'PG', ARRAY['Trailers', 'x"y'] FROM generate_series(1, 20) i;
INSERT INTO customer (email, active) SELECT 'c' || i, i % 2 FROM generate_series(1, 20) i;
INSERT INTO payment (customer_id, amount, payment_date)
SELECT i, 4.99, timestamptz '2022-01-15 00:00Z' + i * interval '1 day' FROM generate_series(1, 20) i;
"""

AIRFLOW = """
CREATE TABLE dag_run (
    id serial PRIMARY KEY, dag_id varchar(250) NOT NULL, execution_date timestamptz NOT NULL,
    run_id varchar(250) NOT NULL, conf bytea, UNIQUE (dag_id, execution_date), UNIQUE (dag_id, run_id));
CREATE TABLE task_instance (
    task_id varchar(250) NOT NULL, dag_id varchar(250) NOT NULL, execution_date timestamptz NOT NULL,
    state varchar(20), PRIMARY KEY (task_id, dag_id, execution_date));
CREATE INDEX ti_state ON task_instance (dag_id, state);
CREATE TABLE task_reschedule (
    id serial PRIMARY KEY, task_id varchar(250) NOT NULL, dag_id varchar(250) NOT NULL,
    execution_date timestamptz NOT NULL,
    CONSTRAINT reschedule_fkey FOREIGN KEY (task_id, dag_id, execution_date) REFERENCES task_instance);
CREATE TABLE log (id serial PRIMARY KEY, event varchar(30));
"""
AIRFLOW_ROWS = """
INSERT INTO dag_run (dag_id, execution_date, run_id, conf)
SELECT 'd' || i % 5, timestamptz '2024-01-01Z' + i * interval '1 day', 'run_' || i, '\\x80'
  FROM generate_series(1, 20) i;
INSERT INTO task_instance SELECT 't' || t, dag_id, execution_date, 'done' FROM dag_run, generate_series(1, 3) t;
INSERT INTO task_reschedule (task_id, dag_id, execution_date)
SELECT task_id, dag_id, execution_date FROM task_instance WHERE task_id = 't1';
INSERT INTO log (event) SELECT 'e' FROM generate_series(1, 20);
"""

DJANGO = """
CREATE TABLE auth_user (id serial PRIMARY KEY, username varchar(150) NOT NULL UNIQUE, last_name varchar(30) NOT NULL);
CREATE INDEX auth_user_like ON auth_user (username varchar_pattern_ops);
CREATE TABLE page (
    id serial PRIMARY KEY, path varchar(255) NOT NULL UNIQUE, depth integer NOT NULL CHECK (depth >= 0),
    owner_id integer REFERENCES auth_user DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE revision (
    id serial PRIMARY KEY, content_json text NOT NULL,
    page_id integer NOT NULL REFERENCES page DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE blogpage (
    page_ptr_id integer PRIMARY KEY REFERENCES page DEFERRABLE INITIALLY DEFERRED, body text, price numeric(6, 2));
"""
DJANGO_ROWS = """
INSERT INTO auth_user (username, last_name) SELECT 'u' || i, 'L' FROM generate_series(1, 10) i;
INSERT INTO page (path, depth, owner_id) SELECT lpad(i::text, 4, '0'), 1, 1 + i % 10 FROM generate_series(1, 20) i;
INSERT INTO revision (content_json, page_id) SELECT '{"a": ' || i || '}', i FROM generate_series(1, 20) i;
INSERT INTO blogpage SELECT i, 'b', i FROM generate_series(1, 20, 2) i;
"""


@dataclass
class Step:
    """A migration of the source; and where something of the target is in the way, what says so, and the mend."""

    change: str
    said: str = ""
    mend: str = ""


@dataclass
class Story:
    """A schema, rows in every table, and its migrations."""

    schema: str
    rows: str
    steps: list[Step] = field(default_factory=list)
    dropped_columns: str = "keep"


STORIES = {
    "Pagila": Story(
        PAGILA,
        PAGILA_ROWS,
        [
            Step("ALTER TYPE mpaa_rating ADD VALUE 'X' AFTER 'PG'"),
            Step(
                "UPDATE film SET rating = 'X' WHERE film_id = 7; ALTER TABLE film ALTER rental_duration TYPE integer;"
                "ALTER TABLE film ADD projection numeric(5, 2) GENERATED ALWAYS AS (rental_duration * 1.5) STORED;"
                "ALTER TABLE customer DROP active; ALTER TABLE customer RENAME activebool TO is_active;"
                "ALTER TABLE language ALTER name TYPE varchar(40)"
            ),
            Step(
                "CREATE TABLE payment_03 PARTITION OF payment FOR VALUES FROM ('2022-03-01 00:00Z') TO ('2022-04-01Z');"
                "INSERT INTO payment (customer_id, amount, payment_date) VALUES (1, 1, '2022-03-05Z')",
                "Create a partition for it",
                "CREATE TABLE payment_03 PARTITION OF payment FOR VALUES FROM ('2022-03-01 00:00Z') TO ('2022-04-01Z')",
            ),
            Step(
                "ALTER TABLE payment ALTER customer_id TYPE bigint, ALTER amount TYPE numeric(10, 2);"
                "ALTER TABLE customer ALTER customer_id TYPE bigint;"
                "UPDATE payment SET amount = 123456 WHERE amount = 1;"
                "ALTER TABLE film ALTER special_features TYPE varchar(30)[]; ALTER TABLE film DROP fulltext;"
                "ALTER TABLE film ADD fulltext tsvector GENERATED ALWAYS AS (to_tsvector('english', title)) STORED"
            ),
            Step(
                "ALTER TABLE payment DROP CONSTRAINT payment_pkey;"
                "ALTER TABLE payment ADD PRIMARY KEY (payment_date, payment_id, customer_id);"
                "ALTER DOMAIN year DROP CONSTRAINT year_check; UPDATE film SET release_year = 1800 WHERE film_id = 2",
                "year_check",
                "ALTER DOMAIN year DROP CONSTRAINT year_check",
            ),
            Step(
                "ALTER TABLE payment_01 DROP CONSTRAINT payment_01_fkey;"
                "ALTER TABLE payment_02 DROP CONSTRAINT payment_02_fkey;"
                "ALTER TABLE payment DROP CONSTRAINT payment_pkey, ADD PRIMARY KEY (payment_date, payment_id);"
                "ALTER TABLE payment ALTER customer_id TYPE text;"
                "ALTER TABLE customer ALTER customer_id TYPE text",
                "_fkey on table public.payment_01 cannot be implemented",
                "ALTER TABLE payment_01 DROP CONSTRAINT payment_01_fkey;"
                "ALTER TABLE payment_02 DROP CONSTRAINT payment_02_fkey",
            ),
        ],
    ),
    "Airflow": Story(
        AIRFLOW,
        AIRFLOW_ROWS,
        [
            Step(
                "ALTER TABLE task_instance ADD run_id varchar(250);"
                "UPDATE task_instance t SET run_id = d.run_id FROM dag_run d"
                " WHERE (d.dag_id, d.execution_date) = (t.dag_id, t.execution_date);"
                "ALTER TABLE task_reschedule ADD run_id varchar(250);"
                "UPDATE task_reschedule r SET run_id = d.run_id FROM dag_run d"
                " WHERE (d.dag_id, d.execution_date) = (r.dag_id, r.execution_date)"
            ),
            Step(
                "ALTER TABLE task_reschedule DROP CONSTRAINT reschedule_fkey;"
                "ALTER TABLE task_instance DROP CONSTRAINT task_instance_pkey;"
                "ALTER TABLE task_instance ADD PRIMARY KEY (dag_id, task_id, run_id), DROP execution_date;"
                "ALTER TABLE task_reschedule DROP execution_date",
                "constraint reschedule_fkey on table public.task_reschedule in the target depends on the",
                "ALTER TABLE task_reschedule DROP CONSTRAINT IF EXISTS reschedule_fkey",
            ),
            Step(
                "ALTER TABLE task_instance ADD map_index integer NOT NULL DEFAULT -1;"
                "ALTER TABLE task_instance DROP CONSTRAINT task_instance_pkey;"
                "ALTER TABLE task_instance ADD PRIMARY KEY (dag_id, task_id, run_id, map_index);"
                "ALTER TABLE dag_run ALTER conf TYPE jsonb USING NULL; ALTER TABLE log ALTER id TYPE bigint;"
                "INSERT INTO log (id, event) VALUES (3000000000, 'x')"
            ),
            Step(
                "ALTER TABLE dag_run RENAME execution_date TO logical_date;"
                "ALTER TABLE dag_run ALTER logical_date DROP NOT NULL;"
                "INSERT INTO dag_run (dag_id, run_id) VALUES ('d1', 'manual')"
            ),
            Step(
                "ALTER TABLE task_instance ADD id uuid; UPDATE task_instance SET id = gen_random_uuid();"
                "ALTER TABLE task_instance DROP CONSTRAINT task_instance_pkey, ADD PRIMARY KEY (id);"
                "DELETE FROM task_instance WHERE task_id = 't2'; UPDATE dag_run SET run_id = 'x' || run_id"
            ),
        ],
        dropped_columns="drop",
    ),
    "Django": Story(
        DJANGO,
        DJANGO_ROWS,
        [
            Step("ALTER TABLE auth_user ALTER last_name TYPE varchar(150), ADD email text DEFAULT ''"),
            Step(
                "ALTER TABLE revision ALTER content_json TYPE jsonb USING content_json::jsonb;"
                "ALTER TABLE revision RENAME content_json TO content; ALTER TABLE revision ADD object_id varchar(255);"
                "UPDATE revision SET object_id = page_id::text; ALTER TABLE revision ALTER object_id SET NOT NULL;"
                "ALTER TABLE revision DROP page_id"
            ),
            Step(
                "ALTER TABLE auth_user ALTER id TYPE bigint; ALTER TABLE page ALTER owner_id TYPE bigint;"
                "ALTER TABLE auth_user ALTER id DROP DEFAULT; DROP SEQUENCE auth_user_id_seq;"
                "ALTER TABLE auth_user ALTER id ADD GENERATED BY DEFAULT AS IDENTITY (START 100);"
                "INSERT INTO auth_user (username, last_name) VALUES ('new', 'L')"
            ),
            Step(
                "UPDATE page SET path = 'tmp' || path WHERE id <= 2;"
                "UPDATE page SET path = CASE id WHEN 1 THEN '0002' ELSE '0001' END WHERE id <= 2;"
                "ALTER TABLE blogpage ALTER price TYPE numeric(4, 2), ALTER body TYPE jsonb USING to_jsonb(body)"
            ),
            Step("DELETE FROM blogpage WHERE page_ptr_id < 9; DELETE FROM page WHERE id < 9"),
        ],
    ),
}


@pytest.mark.parametrize("name", STORIES)
def test_every_migration_is_followed_or_what_is_in_the_way_is_named(replica: Replica, name: str) -> None:
    story = STORIES[name]
    replica.source.execute(story.schema + story.rows)
    replica.target.execute(story.schema)
    options: dict[str, Any] = {"triggers": "skip", "convert": "refill", "dropped_columns": story.dropped_columns}
    names = re.findall(r"CREATE TABLE (\w+) \(", story.schema)
    config = replica.config(*({"source": f"public.{name}", **options} for name in names))

    def failures() -> list[str]:
        return [str(table.error) for table in sync_tables(config, allow_mass_delete=True).tables if table.error]

    assert failures() == []
    for step in story.steps:
        for statement in step.change.rstrip("; ").split(";"):
            replica.source.execute(statement)
        planned = [plan.error for plan in plan_tables(config) if plan.error]
        failed = failures()
        assert {*planned} <= {*failed}
        if failed:
            assert step.said and all(step.said in error for error in failed), failed
            replica.target.execute(step.mend)
            assert failures() == []
        found = [table for table in verify_tables(config).tables if table.status != "match"]
        assert found == [], step.change
