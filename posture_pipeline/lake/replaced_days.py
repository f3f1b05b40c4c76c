"""Days that an import replaces: kept with all their tables, and restored as they were."""

from __future__ import annotations

from datetime import date

from posture_pipeline.errors import InputError
from posture_pipeline.lake.store import Lake
from posture_pipeline.schemas import RAW_FINDING_PAGES, TABLES

NAMES = (RAW_FINDING_PAGES, *(table.name for table in TABLES))


def keep_day(lake: Lake, day: date) -> None:
    """Notes every table of a day, so that it can be restored until maintenance deletes it.

    Of several imports of a day the first one counts: what was there before it is kept.
    """
    if any(lake.at_once(lambda name: lake.replaced(name, day), NAMES)):
        return
    lake.at_once(lambda name: lake.keep(name, day), NAMES)


def restore_day(lake: Lake, day: date) -> list[str]:
    """Makes a day what it was before an import replaced it; the import can then be restored.

    Returns:
        The tables that were restored.

    Raises:
        InputError: Nothing of the day was kept.
        LakeError: Another run writes the day.
    """
    kept = {name: next(iter(lake.replaced(name, day)), None) for name in NAMES}
    restored = [name for name, run in kept.items() if run and lake.restore(name, day, run)]
    if not restored:
        message = (
            f"The lake {lake.root} keeps nothing that was replaced on {day.isoformat()}: no import "
            "replaced that day, or maintenance has deleted it since."
        )
        raise InputError(message)
    return restored
