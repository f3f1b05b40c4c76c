"""The command `posture import`: of one day or of several, refused, stopped and resumed."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from posture_pipeline.cli import main
from posture_pipeline.errors import InputError
from posture_pipeline.lake.catalog.publish import query
from posture_pipeline.lake.replaced_days import restore_day
from posture_pipeline.lake.store import Lake
from posture_pipeline.schemas import (
    MERGED_FINDINGS,
    ORGANIZATION_ACCOUNTS,
    ORGANIZATION_SCORES,
    RAW_FINDING_PAGES,
    TABLES,
)

pytestmark = pytest.mark.functional

FIRST, SECOND = date(2026, 11, 20), date(2026, 11, 21)
STANDARD = "standards/aws-foundational-security-best-practices/v/1.0.0"


def finding(number: int, status: str) -> dict[str, object]:
    return {
        "Id": f"arn:aws:securityhub:eu-west-1:111122223333:security-control/S3.{number}/finding/1",
        "ProductArn": "arn:aws:securityhub:eu-west-1::product/aws/securityhub",
        "AwsAccountId": "111122223333",
        "Region": "eu-west-1",
        "GeneratorId": f"security-control/S3.{number}",
        "UpdatedAt": "2026-11-20T01:00:00Z",
        "Compliance": {
            "Status": status,
            "SecurityControlId": f"S3.{number}",
            "AssociatedStandards": [{"StandardsId": STANDARD}],
        },
        "Resources": [{"Id": "arn:aws:s3:::bucket", "Type": "AwsS3Bucket"}],
    }


@pytest.fixture
def exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Exports of two days: eight passing controls, then four of them failing."""
    monkeypatch.chdir(tmp_path)
    for day, failing in ((FIRST, 0), (SECOND, 4)):
        folder = tmp_path / "exports" / day.isoformat()
        folder.mkdir(parents=True)
        found = [finding(n, "FAILED" if n < failing else "PASSED") for n in range(8)]
        (folder / "findings").write_text(json.dumps({"findings": found}), encoding="utf-8")
    (tmp_path / "exports" / "notes.txt").write_text("hello", encoding="utf-8")
    return tmp_path / "exports"


def score(day: date) -> float | None:
    rows = Lake("lake").read(ORGANIZATION_SCORES, day)
    return float(rows["score"][0])


def test_days_are_imported_oldest_first_and_an_import_goes_on_where_it_stopped(
    exports: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["import", str(exports), "--each-day", "--lake", "lake"]
    second = exports / SECOND.isoformat() / "findings"
    complete = second.read_text(encoding="utf-8")
    second.write_text(json.dumps(json.loads(complete)["findings"][:2]), encoding="utf-8")
    assert main(command) == 1, "most findings are gone without evidence"
    said = capsys.readouterr()
    assert "notes.txt is text or CSV without findings" in said.out
    assert "2026-11-20: 8 findings" in said.out
    assert "stopped at 2026-11-21, day 2 of 2" in said.err
    assert "Run the same command again" in said.err

    second.write_text(complete, encoding="utf-8")
    assert main(command) == 0
    said = capsys.readouterr()
    assert "and 1 were imported before" in said.out
    assert "2026-11-21: 8 findings" in said.out
    assert (score(FIRST), score(SECOND)) == (100.0, 50.0)


def test_a_refused_import_changes_nothing(
    exports: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted(map(str, exports.glob("*/findings")))
    assert main(["import", files[0], "--date", "2026-11-20", "--lake", "lake"]) == 0
    lake = Lake("lake")
    lake.recommit(
        RAW_FINDING_PAGES,
        FIRST,
        lambda commit: replace(commit, details={**commit.details, "source": "aws"}),
    )
    tables = (ORGANIZATION_ACCOUNTS.name, RAW_FINDING_PAGES, MERGED_FINDINGS.name)
    before = [lake.require(table, FIRST) for table in tables]
    capsys.readouterr()
    command = ["import", files[1], "--date", "2026-11-20", "--lake", "lake"]
    assert main(command) == 1
    said = capsys.readouterr().err
    assert "collected from AWS" in said
    assert "--replace" in said
    assert [lake.require(table, FIRST) for table in tables] == before
    assert main([*command, "--replace"]) == 0
    assert score(FIRST) == 50.0


def test_what_an_import_replaced_can_be_restored(
    exports: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With all its tables, also those that cannot be computed again."""
    files = sorted(map(str, exports.glob("*/findings")))
    command = ["import", "--date", FIRST.isoformat(), "--lake", "lake"]
    assert main([*command, files[0]]) == 0
    lake = Lake("lake")
    names = (RAW_FINDING_PAGES, *(table.name for table in TABLES))
    before = {name: lake.commit_of(name, FIRST) for name in names}
    assert main([*command, files[1]]) == 0
    assert main([*command, files[1]]) == 0, "what was there before the first import counts"
    assert score(FIRST) == 50.0
    capsys.readouterr()
    assert main(["restore", "--date", FIRST.isoformat(), "--lake", "lake"]) == 0
    assert "Restored 2026-11-20" in capsys.readouterr().out
    assert {name: lake.commit_of(name, FIRST) for name in names} == before
    assert score(FIRST) == 100.0
    catalog = query(lake, "SELECT score FROM organization_scores")
    assert catalog["score"].to_list() == [100.0]


def test_a_day_that_no_import_replaced_cannot_be_restored(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="keeps nothing that was replaced on 2026-11-20"):
        restore_day(Lake(str(tmp_path / "lake")), FIRST)
