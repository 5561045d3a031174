"""Run by the Python of dlt's own environment: reads a job from standard input, and prints how long it took."""

import json
import sys
import time

import dlt
from dlt.sources.credentials import ConnectionStringCredentials
from dlt.sources.sql_database import sql_table

job = json.load(sys.stdin)
began = time.perf_counter()
pipeline = dlt.pipeline(
    "benchmark",
    destination=dlt.destinations.postgres(job["target"]),
    dataset_name="public",
    pipelines_dir=job["folder"],
)
tables = []
for name in job["tables"]:
    table = sql_table(
        ConnectionStringCredentials(job["source"]),
        table=name,
        schema="public",
        backend=job["backend"],
        incremental=dlt.sources.incremental(job["cursor"]),
    )
    table.apply_hints(primary_key=job["key"], write_disposition=job["disposition"])
    tables.append(table)
pipeline.run(tables)
sys.stdout.write("\n" + json.dumps({"seconds": time.perf_counter() - began}) + "\n")
