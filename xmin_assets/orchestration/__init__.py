"""All of Dagster: the assets over the engine's stations, what carries their manifests, what the UI shows."""
