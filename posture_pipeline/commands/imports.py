"""The commands `posture import` and `restore`: saved findings become snapshots of one day or more.

Everything is looked through before anything is written. What files hold is read in
`lake/saved_findings.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from posture_pipeline.commands.core import (
    SETTINGS_FILE,
    existing_lake,
    has_settings,
    run_one,
    settings_of,
    show_scores,
)
from posture_pipeline.errors import PostureError, SettingsError

if TYPE_CHECKING:
    from posture_pipeline.lake.saved_findings import SavedFile, Survey
    from posture_pipeline.lake.store import Lake
    from posture_pipeline.settings import Settings

MOST_LISTED = 20
"""Files that are listed by name when they are left out."""


class ImportStoppedError(PostureError):
    """An import of several days stopped at one of them; the text says how it goes on."""


def import_findings(arguments: argparse.Namespace) -> int:
    """Makes saved findings the snapshots of their days and computes everything from them."""
    from posture_pipeline.lake.replaced_days import keep_day
    from posture_pipeline.lake.saved_findings import (
        by_day,
        ensure_enough_is_readable,
        ensure_nothing_is_lost,
        look_through,
    )
    from posture_pipeline.opening import open_lake
    from posture_pipeline.resources import SavedFindings
    from posture_pipeline.settings import Settings

    settings = _present_settings(arguments)
    place = arguments.lake or (settings or Settings()).lake
    survey = look_through(arguments.paths, without=None if "://" in place else Path(place))
    _print_left_out(survey)
    days = by_day(survey) if arguments.each_day else {arguments.date: survey.files}
    if settings is None:
        settings = _settings_for(arguments, survey, min(days))
    lake = open_lake(settings)
    pending = {day: files for day, files in days.items() if not _is_imported(lake, day, files)}
    for day, files in pending.items():
        if not arguments.replace:
            ensure_nothing_is_lost(lake, day, files)
        ensure_enough_is_readable(files, settings.checks.quarantine_share)
    for day in pending:
        keep_day(lake, day)
    settings = settings.model_copy(update={"start_date": min(settings.start_date, *days)})
    if arguments.each_day:
        return _import_days(settings, days, pending)
    print(f"Importing {len(survey.files):,} files as {arguments.date.isoformat()}.")
    return run_one(settings, arguments.date, arguments, source=SavedFindings(survey.paths))


def restore(arguments: argparse.Namespace) -> int:
    """Makes a day what it was before an import replaced it."""
    from posture_pipeline.lake.catalog.publish import publish_day
    from posture_pipeline.lake.replaced_days import restore_day

    settings = settings_of(arguments)
    lake = existing_lake(settings)
    day: date = arguments.date
    restored = restore_day(lake, day)
    publish_day(lake, day)
    print(f"Restored {day.isoformat()}: {len(restored):,} tables are as before the import.")
    print(f"Next: posture replay --from {day.isoformat()}, if later days were computed since.")
    return 0


def _import_days(
    settings: Settings,
    days: Mapping[date, Sequence[SavedFile]],
    pending: Mapping[date, Sequence[SavedFile]],
) -> int:
    """Imports days one by one, oldest first; those that are imported already stay."""
    from posture_pipeline.commands.output import Progress
    from posture_pipeline.commands.replay import update_later_days
    from posture_pipeline.opening import open_lake
    from posture_pipeline.resources import SavedFindings
    from posture_pipeline.running import RunFailedError, dagster_instance, run_day
    from posture_pipeline.schemas import MERGED_FINDINGS, RAW_FINDING_PAGES

    lake = open_lake(settings)
    # The run of the last one may not have ended, unless a later day was begun.
    last = max((day for day in days if day not in pending), default=date.min)
    begun = any(lake.last_commit_of(RAW_FINDING_PAGES, day) for day in pending if day > last)
    wanted = sorted({*pending} if begun else {*pending, last} & {*days})
    before = len(days) - len(wanted)
    print(
        f"Importing days from {min(days)} to {max(days)}: {len(wanted):,}"
        + (f", and {before:,} were imported before." if before else ".")
    )
    noted: set[str] = set()
    with Progress() as progress, dagster_instance(settings) as instance:
        for number, day in enumerate(wanted, 1):
            progress.prefix = f"Day {number} of {len(wanted)} ({day.isoformat()}): "
            source = SavedFindings([file.path for file in days[day]])
            try:
                done = run_day(settings, day, instance=instance, tell=progress, source=source)
            except RunFailedError as error:
                message = (
                    f"The import stopped at {day.isoformat()}, day {number} of {len(wanted)}: "
                    f"{error} The days before it are stored. Run the same command again: it goes "
                    "on there."
                )
                raise ImportStoppedError(message) from error
            progress.clear()
            merged = lake.require(MERGED_FINDINGS.name, day)
            print(
                f"{day.isoformat()}: {merged.rows:,} findings, "
                f"{merged.details['duplicates']:,} duplicates and "
                f"{merged.details['quarantined']:,} quarantined, from {len(days[day]):,} files."
                + "".join(f"\n  Note: {each}" for each in done.warnings if each not in noted),
                flush=True,
            )
            noted.update(done.warnings)
    for day in wanted:
        for line in update_later_days(settings, lake, day):
            print(line)
    print()
    show_scores(settings, wanted[-1])
    print(f"Lake: {settings.lake}")
    return 0


def _is_imported(lake: Lake, day: date, files: Sequence[SavedFile]) -> bool:
    """Whether the stored day is an import of the same files."""
    from posture_pipeline.lake.saved_findings import hash_of
    from posture_pipeline.schemas import ORGANIZATION_SCORES, RAW_FINDING_PAGES

    raw = lake.last_commit_of(RAW_FINDING_PAGES, day)
    return (
        raw is not None
        and lake.commit_of(ORGANIZATION_SCORES.name, day) is not None
        and raw.details.get("files_hash") == hash_of([file.path for file in files])
    )


def _print_left_out(survey: Survey) -> None:
    if not survey.left_out:
        return
    print(f"Left out, because they hold no findings that can be read ({len(survey.left_out):,}):")
    for name, reason in survey.left_out[:MOST_LISTED]:
        print(f"  {name} {reason}")
    if len(survey.left_out) > MOST_LISTED:
        print(f"  and {len(survey.left_out) - MOST_LISTED:,} more")


def _present_settings(arguments: argparse.Namespace) -> Settings | None:
    """The settings that there are; null: an import writes its own."""
    if has_settings(arguments):
        return settings_of(arguments)
    if "://" in (arguments.lake or ""):
        message = (
            "An import into a bucket needs a posture.yaml (posture init) that says which reports "
            "you want, and how the bucket is reached."
        )
        raise SettingsError(message)
    return None


def _settings_for(arguments: argparse.Namespace, survey: Survey, first: date) -> Settings:
    """Settings of the lake's own, with a report for each standard that the findings name."""
    import yaml

    from posture_pipeline.settings import Settings, load_settings

    lake = Path(arguments.lake or Settings().lake)
    own = lake / SETTINGS_FILE
    if own.is_file():
        return load_settings(own)
    if not survey.standards:
        message = (
            "No finding names a standard, so there is no report to score. Write a "
            "posture.yaml (posture init) with the reports you want, and import again."
        )
        raise SettingsError(message)
    raw = {
        "lake": ".",
        "reports": [
            {"name": standard.replace("/v/", "-v").lower(), "standard": standard}
            for standard in survey.standards
        ],
        "metrics": {"enabled": False},
        "start_date": min(first, Settings().start_date),
    }
    lake.mkdir(parents=True, exist_ok=True)
    own.write_text(
        "# Settings of this lake: a report for each standard that the imported findings name.\n"
        + yaml.safe_dump(raw, sort_keys=False),
        encoding="utf-8",
    )
    print(f"Wrote {own}, with a report for each standard in the findings.")
    return load_settings(own)
