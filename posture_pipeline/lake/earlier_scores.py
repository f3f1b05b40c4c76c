"""Scores that an earlier method made: what is kept beside the present ones of a day.

How they are kept stands in `store.py`.
"""

from __future__ import annotations

from datetime import date

import polars as pl

from posture_pipeline.lake.store import Lake
from posture_pipeline.schemas import EARLIER_SCORES, SCORE_TABLES


def superseded_scores(lake: Lake, day: date) -> pl.DataFrame:
    """The scores of a day as every earlier method made them, of all scopes.

    Returns:
        Rows of `schemas.EARLIER_SCORES`; none where the day was computed by one method only.

    Raises:
        LakeError: A commit of the day is damaged.
    """
    frames = [EARLIER_SCORES.empty()]
    for table in SCORE_TABLES:
        current = lake.commit_of(table.name, day)
        if current is None:
            continue
        scope = pl.lit(table.name.removesuffix("_scores")).alias("scope")
        frames += [
            EARLIER_SCORES.read_as(lake.read(table, day, method=method).with_columns(scope))
            for method, commit in lake.methods(table, day).items()
            if commit.run != current.run
        ]
    return pl.concat(frames)
