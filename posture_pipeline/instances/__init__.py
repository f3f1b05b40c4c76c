"""Settings of Dagster instances (dagster.yaml), one for each way of running the pipeline."""
