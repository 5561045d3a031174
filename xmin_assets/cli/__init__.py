"""The `xmin-assets` command: one module per command, thin callers of the engine, no Dagster."""
