"""The rules: ASFF to columns, control identity, workloads, scoring. Polars in, Polars out.

No I/O, no Dagster and no boto3 in here.
"""
