"""Daily security posture of every AWS account and workload: collected, scored, kept.

Nothing is wired here; Dagster loads `definitions.py`, people use `cli.py`.
"""

import os

# Read when Polars is loaded: its allocator then gives memory back to the machine soon, instead of
# keeping what the largest step needed until the process ends.
os.environ.setdefault("_RJEM_MALLOC_CONF", "dirty_decay_ms:200,muzzy_decay_ms:0")
