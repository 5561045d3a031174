"""Run by the Python of dlt's own environment: reads a job from standard input, and prints how long it took."""

import json
import sys
import time

import dlt
from dlt.sources.credentials import ConnectionStringCredentials
from dlt.sources.sql_database import sql_database

job = json.load(sys.stdin)
began = time.perf_counter()
pipeline = dlt.pipeline(
    "benchmark",
    destination=dlt.destinations.postgres(job["target"]),
    dataset_name="public",
    pipelines_dir=job["folder"],
)
source = sql_database(
    ConnectionStringCredentials(job["source"]), schema="public", table_names=job["tables"], backend=job["backend"]
)
for table in source.resources.values():
    table.apply_hints(
        primary_key=job["key"],
        write_disposition=job["disposition"],
        incremental=dlt.sources.incremental(job["cursor"]),
    )
pipeline.run(source)
sys.stdout.write("\n" + json.dumps({"seconds": time.perf_counter() - began}) + "\n")
