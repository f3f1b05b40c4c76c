"""Settings of Dagster instances (dagster.yaml), and what they name that Dagster does not have."""
