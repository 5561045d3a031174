"""The engine: one module per station, in the order data flows (snapshot, extract, stage, merge). No Dagster here."""
