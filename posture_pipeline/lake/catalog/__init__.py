"""The catalog: `posture.duckdb`, the history of scores and control status in one small file.

It can be rebuilt from the lake at any time. The SQL stands in the .sql files beside this one.
"""
