"""Settings: defaults that work, errors that name the key, the value and what is allowed."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

import posture_pipeline
from posture_pipeline.errors import SettingsError
from posture_pipeline.settings import (
    DEMO_REPORTS,
    Report,
    Settings,
    Simulation,
    find_settings,
    load_settings,
)

SHIPPED = Path(posture_pipeline.__file__).with_name("posture.yaml")
STANDARD = "aws-foundational-security-best-practices/v/1.0.0"
SEVERE = {"SeverityLabel": [{"Value": "CRITICAL", "Comparison": "EQUALS"}]}


def load(folder: Path, text: str | bytes) -> Settings:
    path = folder / "posture.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_settings(path)


def refusal(folder: Path, text: str | bytes) -> str:
    with pytest.raises(SettingsError) as error:
        load(folder, text)
    message = str(error.value)
    assert str(folder / "posture.yaml") in message
    return message


def paths_of(model: type[BaseModel], prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every key of the settings, the ones inside others too; reports are looked at apart."""
    found: list[tuple[str, ...]] = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found += paths_of(kind, (*prefix, name))
        else:
            found.append((*prefix, name))
    return found


# --- defaults ---------------------------------------------------------------------------------


def test_without_a_file_the_simulated_organization_is_used_with_every_kind_of_report() -> None:
    settings = load_settings(None)
    assert settings.simulation == Simulation()
    assert settings.reports == DEMO_REPORTS
    assert {report.kind for report in settings.reports} == {
        "standard",
        "conformance_pack",
        "custom_rules",
    }


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    assert load(tmp_path, "") == load(tmp_path, "{}") == load(tmp_path, "# nothing\n")
    expected = Settings().model_copy(update={"lake": str(tmp_path / "lake")})
    assert load(tmp_path, "") == expected


def test_the_shipped_file_says_every_default_and_nothing_else(tmp_path: Path) -> None:
    assert load(tmp_path, SHIPPED.read_bytes()) == load(tmp_path, "")
    raw = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    for path in paths_of(Settings):
        value: Any = raw
        for key in path:
            assert key in value, f"{'.'.join(path)} is not in the shipped file"
            value = value[key]


def test_the_shipped_file_shows_every_key_of_a_report() -> None:
    text = SHIPPED.read_text(encoding="utf-8")
    for key in Report.model_fields:
        assert re.search(rf"\b{key}:", text), key


def test_the_examples_of_the_shipped_file_can_be_used_as_they_are(tmp_path: Path) -> None:
    text = SHIPPED.read_text(encoding="utf-8")
    block = text[text.index("\nreports:") : text.index("\naccounts:")]
    lines = [re.sub(r"^  # (- |  )", r"  \1", line) for line in block.splitlines()]
    settings = load(tmp_path, "\n".join(line for line in lines if not line.startswith("  #")))
    assert [report.name for report in settings.reports] == [
        "fsbp",
        "cis-v3",
        "all",
        "lz-pack",
        "lz-rules",
    ]
    assert settings.report("lz-pack").rules is not None


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().lake = "elsewhere"


# --- paths ------------------------------------------------------------------------------------


def test_relative_paths_start_at_the_settings_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    settings = load(
        tmp_path,
        "lake: data/lake\naccounts: {overrides: ../accounts.csv}\nexceptions: exceptions.csv",
    )
    assert settings.lake == str(tmp_path / "data" / "lake")
    assert settings.accounts.overrides == str(tmp_path.parent / "accounts.csv")
    assert settings.exceptions == str(tmp_path / "exceptions.csv")


def test_absolute_paths_and_uris_stay(tmp_path: Path) -> None:
    assert load(tmp_path, "lake: /data/lake").lake == "/data/lake"
    assert load(tmp_path, "lake: s3://bucket/prefix").lake == "s3://bucket/prefix"


def test_a_path_in_the_home_folder_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert load(tmp_path, "lake: ~/lake").lake == str(tmp_path / "home" / "lake")


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    assert load(tmp_path, b"\xef\xbb\xbfcollect: failing").collect == "failing"


# --- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key", "value", "allowed"),
    [
        ("lake: ''", "lake", "''", "at least 1 character"),
        ("lake: null", "lake", "None", "string"),
        ("start_date: tomorrow", "start_date", "'tomorrow'", "date"),
        ("schedule: {timezone: Mars}", "schedule.timezone", "'Mars'", "Europe/Amsterdam or UTC"),
        ("schedule: {timezone: Europe}", "schedule.timezone", "'Europe'", "Europe/Amsterdam"),
        ("schedule: {timezone: ''}", "schedule.timezone", "''", "Europe/Amsterdam"),
        ("schedule: {cron: hourly}", "schedule.cron", "'hourly'", "five fields"),
        ("schedule: {cron: '*/5 * * * *'}", "schedule.cron", "'*/5 * * * *'", "fixed minute"),
        ("schedule: {cron: '60 6 * * *'}", "schedule.cron", "'60 6 * * *'", "minute up to 59"),
        ("schedule: {cron: '0 24 * * *'}", "schedule.cron", "'0 24 * * *'", "hour up to 23"),
        ("schedule: {cron: '0 6 32 * *'}", "schedule.cron", "'32'", "from 1 to 31"),
        ("schedule: {cron: '0 6 * moon *'}", "schedule.cron", "'moon'", "from 1 to 12"),
        ("schedule: {cron: '0 6 * * 8'}", "schedule.cron", "'8'", "from 0 to 7"),
        ("schedule: {cron: '0 6 20-10 * *'}", "schedule.cron", "'20-10'", "from 1 to 31"),
        ("schedule: {cron: '0 6 31 feb,apr *'}", "schedule.cron", "no date", "the month"),
        ("maintenance: {cron: '0 6 30 2 *'}", "maintenance.cron", "no date", "the month"),
        ("aws: {requests_per_second: 0}", "aws.requests_per_second", "0", "greater than 0"),
        ("simulation: {accounts: 4}", "simulation.accounts", "4", "5"),
        ("collect: some", "collect", "'some'", "'all' or 'failing'"),
        ("shards: maybe", "shards", "'maybe'", "boolean"),
        ("archived_days: 31", "archived_days", "31", "30"),
        ("archived_days: -1", "archived_days", "-1", "0"),
        ("reports: []", "reports", "[]", "at least one"),
        ("reports: [{name: a}]", "reports.0", "'a'", "exactly one of standard"),
        (
            f"reports: [{{name: a, standard: {STANDARD}, custom_rules: [x]}}]",
            "reports.0",
            "'x'",
            "exactly one of standard, all_standards, conformance_pack, custom_rules",
        ),
        ("reports: [{name: A B, custom_rules: [x]}]", "reports.0.name", "'A B'", "lower-case"),
        ('reports: [{name: "a\\n", custom_rules: [x]}]', "reports.0.name", r"'a\n'", "lower"),
        ("reports: [{name: ../x, custom_rules: [x]}]", "reports.0.name", "'../x'", "lower-case"),
        ("reports: [{name: a, standard: fsbp}]", "reports.0.standard", "'fsbp'", STANDARD),
        ("reports: [{name: a, custom_rules: []}]", "reports.0", "[]", "at least one rule"),
        ("reports: [{name: a, custom_rules: ['']}]", "reports.0.custom_rules.0", "''", "at least"),
        (
            f"reports: [{{name: a, standard: {STANDARD}, rules: [x]}}]",
            "reports.0",
            "'x'",
            "conformance_pack",
        ),
        (
            "reports: [{name: a, custom_rules: [x]}, {name: a, custom_rules: [y]}]",
            "reports",
            "'y'",
            "a twice",
        ),
        ("accounts: {name_pattern: '('}", "accounts.name_pattern", "'('", "regular expression"),
        ("accounts: {name_pattern: x}", "accounts.name_pattern", "'x'", "(?P<workload>...)"),
        ("thresholds: {red: 101}", "thresholds.red", "101", "100"),
        ("thresholds: {red: 99}", "thresholds", "99", "red must not be above amber"),
        ("thresholds: {red: .nan}", "thresholds.red", "nan", "100"),
        ("metrics: {namespace: AWS/Own}", "metrics.namespace", "'AWS/Own'", "must not start with"),
        ("metrics: {namespace: ''}", "metrics.namespace", "''", "at least 1 character"),
        ("retention: {merged_findings: 0d}", "retention.merged_findings", "'0d'", "such as 14d"),
        ("retention: {merged_findings: 2w}", "retention.merged_findings", "'2w'", "such as 14d"),
        (
            "retention: {merged_findings: 99999999999d}",
            "retention.merged_findings",
            "'99999999999d'",
            "to 36500",
        ),
        ("checks: {quarantine_share: 2}", "checks.quarantine_share", "2", "1"),
        ("checks: {score_move: 0}", "checks.score_move", "0", "greater than 0"),
        ("checks: {exception_days: -1}", "checks.exception_days", "-1", "0"),
        ("exceptions: ''", "exceptions", "''", "at least 1 character"),
    ],
)
def test_an_error_names_the_key_the_value_and_what_is_allowed(
    tmp_path: Path, text: str, key: str, value: str, allowed: str
) -> None:
    message = refusal(tmp_path, text)
    assert f"{key} is " in message
    assert value in message
    assert allowed in message
    assert "tuple" not in message, "one wrong value is told once, in words of the file"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("laek: x", "laek"),
        ("aws: {regoin: x}", "aws.regoin"),
        ("accounts: {tags: {team: x}}", "accounts.tags.team"),
        ("reports: [{name: a, custom_rules: [x], rule: y}]", "reports.0.rule"),
    ],
)
def test_an_unknown_key_is_refused_wherever_it_stands(
    tmp_path: Path, text: str, place: str
) -> None:
    assert f"{place} is no known setting" in refusal(tmp_path, text)


def test_every_wrong_value_is_named_at_once(tmp_path: Path) -> None:
    message = refusal(tmp_path, "laek: x\ncollect: some\nreports: [{custom_rules: [a]}]")
    for part in ("laek is no known", "collect is 'some'", "reports.0.name is missing"):
        assert part in message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("lake: {a", "no valid YAML"),
        ("start_date: 2024-02-30", "no valid YAML: day is out of range"),
        ("!!python/object/apply:os.getcwd []", "no valid YAML"),
        ("- lake", "must hold keys and values"),
        ("lake", "must hold keys and values"),
        (b"lake: caf\xe9", "no UTF-8 text"),
    ],
)
def test_what_is_no_settings_file_is_refused_with_the_reason(
    tmp_path: Path, text: str | bytes, says: str
) -> None:
    assert says in refusal(tmp_path, text)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.yaml cannot be read: No such file"):
        load_settings(tmp_path / "nowhere.yaml")
    with pytest.raises(SettingsError, match="cannot be read: Is a directory"):
        load_settings(tmp_path)


@examples(max_examples=40)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), st.lists))
def test_no_value_of_any_type_gets_past_as_another_error(value: object) -> None:
    """A value of the wrong type is an error of the settings, never one of the program."""
    for name in Settings.model_fields:
        with suppress(ValidationError):
            Settings.model_validate({name: value})


def test_settings_that_were_written_down_are_read_as_the_same(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        "stale_after: 2d\nreports: [{name: a, custom_rules: [r]}, "
        f"{{name: b, standard: {STANDARD}, stale_after: never}}]",
    )
    text = yaml.safe_dump(settings.model_dump(mode="json"))
    assert load(tmp_path, text) == settings


# --- values -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "days"), [("14d", 14), ("14 d", 14), ("14", 14), ("'1d'", 1)])
def test_durations_are_days(tmp_path: Path, text: str, days: int) -> None:
    settings = load(tmp_path, f"retention: {{account_findings: {text}}}")
    assert settings.retention.account_findings == timedelta(days=days)


@pytest.mark.parametrize("hours", ["36h", "3d", "never", None])
def test_settings_written_as_json_can_be_read_again(hours: str | None) -> None:
    written = Settings.model_validate({"stale_after": hours}).model_dump(mode="json")
    assert written["retention"]["account_findings"] == "400d"
    assert Settings.model_validate(written) == Settings.model_validate({"stale_after": hours})


@pytest.mark.parametrize("cron", ["0 6 * * *", "59 23 1 1 0", "5 0 1-15/2 jan,JUL mon-fri"])
def test_a_schedule_has_a_fixed_minute_and_hour(tmp_path: Path, cron: str) -> None:
    assert load(tmp_path, f"schedule: {{cron: '{cron}'}}").schedule.cron == cron


@pytest.mark.parametrize(
    ("cron", "timezone"),
    [
        ("30 1 * * *", "Europe/Amsterdam"),
        ("30 19 * * *", "America/New_York"),
        ("0 10 * * *", "Australia/Sydney"),
        ("30 23 * * *", "Atlantic/Azores"),
    ],
)
def test_a_schedule_that_would_lose_a_day_when_clocks_change_is_refused(
    tmp_path: Path, cron: str, timezone: str
) -> None:
    """Its UTC day differs between summer and winter, and the UTC day is the snapshot's."""
    said = refusal(tmp_path, f"schedule: {{cron: '{cron}', timezone: {timezone}}}")
    assert "another UTC day in summer" in said
    assert "choose another hour" in said


@pytest.mark.parametrize(
    ("cron", "timezone"),
    [
        ("30 0 * * *", "Europe/Amsterdam"),
        ("30 2 * * *", "Europe/Amsterdam"),
        ("30 1 * * *", "UTC"),
        ("30 10 * * *", "Asia/Tokyo"),
        ("0 11 * * *", "Australia/Sydney"),
    ],
)
def test_a_schedule_whose_utc_day_is_the_same_all_year_is_taken(
    tmp_path: Path, cron: str, timezone: str
) -> None:
    text = f"schedule: {{cron: '{cron}', timezone: {timezone}}}"
    assert load(tmp_path, text).schedule.timezone == timezone


@pytest.mark.parametrize("cron", ["0 3 29 2 *", "0 3 31 * *", "0 3 30 2 1", "0 3 31 4,5 *"])
def test_a_schedule_with_some_date_of_the_calendar_is_taken(tmp_path: Path, cron: str) -> None:
    assert load(tmp_path, f"schedule: {{cron: '{cron}'}}").schedule.cron == cron


@pytest.mark.parametrize(
    ("report", "kind"),
    [
        ({"standard": STANDARD}, "standard"),
        ({"conformance_pack": "lz-framework"}, "conformance_pack"),
        ({"conformance_pack": "lz-framework", "rules": ["lz-s3"]}, "conformance_pack"),
        ({"custom_rules": ["lz-s3"]}, "custom_rules"),
    ],
)
def test_a_report_is_of_the_kind_of_its_key(report: dict[str, Any], kind: str) -> None:
    assert Report(name="x", **report).kind == kind


@pytest.mark.parametrize("prefix", ["", "standards/", "ruleset/", "  standards/"])
def test_a_standard_may_be_written_with_or_without_its_folder(prefix: str) -> None:
    assert Report(name="x", standard=f"{prefix}{STANDARD}").standard == STANDARD


def test_start_date_is_a_date(tmp_path: Path) -> None:
    assert load(tmp_path, "start_date: 2023-05-06").start_date == date(2023, 5, 6)


def test_regions_are_the_home_region_unless_they_are_named(tmp_path: Path) -> None:
    assert load(tmp_path, "aws: {region: eu-north-1}").aws.collect_regions == ("eu-north-1",)
    settings = load(tmp_path, "aws: {region: eu-north-1, regions: [us-east-1, eu-west-1]}")
    assert settings.aws.collect_regions == ("us-east-1", "eu-west-1")


def test_an_unknown_report_is_answered_with_the_known_ones() -> None:
    with pytest.raises(SettingsError, match="no report 'nope' in the settings; there are: fsbp"):
        Settings().report("nope")
    assert Settings().report("fsbp").standard == STANDARD


# --- filters ----------------------------------------------------------------------------------


def test_an_unsupported_filter_is_refused_when_the_settings_are_loaded(tmp_path: Path) -> None:
    message = refusal(
        tmp_path,
        "reports: [{name: a, custom_rules: [x], "
        "filter: {MalwareName: [{Value: x, Comparison: EQUALS}]}}]",
    )
    assert "reports.0.filter is " in message
    assert "MalwareName is not supported in a filter; use AwsAccountId, " in message


def test_a_filter_is_kept_as_it_is_written(tmp_path: Path) -> None:
    settings = load(tmp_path, yaml.safe_dump({"reports": [report_raw(filter=SEVERE)]}))
    assert settings.reports[0].filter == SEVERE


# --- hashes of a report ------------------------------------------------------------------------


def report_raw(**more: Any) -> dict[str, Any]:
    return {"name": "one", "conformance_pack": "lz-framework"} | more


def test_the_hash_does_not_depend_on_the_name() -> None:
    one, two = Report(**report_raw()), Report(**report_raw(name="two"))
    assert one.definition == two.definition
    assert one.score_hash(90) == two.score_hash(90)


def test_the_hash_depends_on_everything_that_decides_the_score() -> None:
    reports = [
        Report(**report_raw()),
        Report(**report_raw(conformance_pack="other")),
        Report(**report_raw(rules=["lz-s3"])),
        Report(**report_raw(rules=["lz-s3", "lz-sqs"])),
        Report(**report_raw(filter=SEVERE)),
        Report(name="one", custom_rules=("lz-s3",)),
        Report(name="one", standard=STANDARD),
    ]
    hashes = {report.score_hash(90) for report in reports}
    assert len(hashes) == len(reports)
    assert reports[0].score_hash(90) != reports[0].score_hash(0)


def test_the_definition_depends_on_everything_that_decides_which_controls_are_listed() -> None:
    reports = [
        Report(**report_raw()),
        Report(**report_raw(conformance_pack="other")),
        Report(name="one", custom_rules=("lz-s3",)),
        Report(name="one", custom_rules=("lz-s3", "lz-sqs")),
        Report(name="one", standard=STANDARD),
        Report(name="one", all_standards=True),
    ]
    assert len({report.definition for report in reports}) == len(reports)
    # The filter decides which findings count; rules of a pack are read from the settings.
    for same in (report_raw(filter=SEVERE), report_raw(rules=["lz-s3"])):
        assert Report(**same).definition == reports[0].definition


def test_a_report_of_all_standards_is_of_nothing_else() -> None:
    assert Report(name="all", all_standards=True).kind == "all_standards"
    for more in ({"standard": STANDARD}, {"custom_rules": ["lz-s3"]}):
        with pytest.raises(ValueError, match="exactly one of standard, all_standards"):
            Report(name="all", all_standards=True, **more)
    with pytest.raises(ValueError, match="all_standards"):
        Report.model_validate({"name": "all", "all_standards": False})


def test_the_hash_is_the_same_in_every_process_and_version() -> None:
    assert Report(name="x", standard=f"standards/{STANDARD}").definition == "92e302aa488b"


# --- find_settings ----------------------------------------------------------------------------


def test_settings_are_found_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable, then the working folder, then the demo in it."""
    monkeypatch.chdir(tmp_path)
    assert find_settings({}) is None
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "posture.yaml").touch()
    assert find_settings({}) == Path("demo/posture.yaml")
    (tmp_path / "posture.yaml").touch()
    assert find_settings({}) == Path("posture.yaml")
    assert find_settings({"POSTURE_CONFIG": "/etc/posture.yaml"}) == Path("/etc/posture.yaml")
    assert find_settings({"POSTURE_CONFIG": ""}) == Path("posture.yaml")
