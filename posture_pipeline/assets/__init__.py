"""The assets, thin, by group as in the UI: ingest, findings, scores, history, publish.

Each says its partition, scans, calls one rule, writes, and reports metadata. Rules, AWS calls and
paths do not belong here. The modules do without `from __future__ import annotations`, because
Dagster reads the annotation of `context` as it stands.
"""
