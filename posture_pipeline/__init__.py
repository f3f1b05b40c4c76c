"""Daily security posture of every AWS account and workload: collected, scored, kept.

Nothing is imported or wired here; Dagster loads `definitions.py`, people use `cli.py`.
"""
