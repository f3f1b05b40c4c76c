"""Alerts: which scores are told of, who is told, and what each channel takes."""

from __future__ import annotations

import dataclasses
import json
from datetime import date, time
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posture_pipeline.model.alerts import (
    HEADER_LENGTH,
    SECTION_LENGTH,
    SNS_BYTES,
    SUBJECT_LENGTH,
    Message,
    ScoreAlert,
    by_target,
    plain_text,
    score_alerts,
    score_title,
    slack_escaped,
    slack_payload,
    subject,
)
from posture_pipeline.model.causes import Day
from posture_pipeline.schemas import (
    ACCOUNT_SCORES,
    CONTROL_STATUS,
    EXPECTED_CONTROLS,
    ORGANIZATION_SCORES,
    WORKLOAD_SCORES,
)
from posture_pipeline.settings import Alerts, Settings

FIRST, SECOND = date(2026, 3, 2), date(2026, 3, 3)
TOPIC = "arn:aws:sns:eu-west-1:111122223333:security"
PAYMENTS = "env:PAYMENTS_WEBHOOK"


def workload(score: float | None, name: str = "payments", **values: Any) -> dict[str, Any]:
    return {
        "report": "fsbp",
        "report_kind": "standard",
        "workload": name,
        "environment": "production",
        "score": score,
        "reason": None if score is not None else "account 1 fell silent",
        "method": "2",
        "settings_hash": "abc",
        **values,
    }


def stored(day: date, rows: list[dict[str, Any]], owners: dict[str, str] | None = None) -> Day:
    """A day with these workload scores, each workload of one account; the organization's stays."""
    workloads = WORKLOAD_SCORES.read_as(pl.DataFrame(rows, infer_schema_length=None))
    accounts = [
        row | {"account_id": f"{number:012d}", "owner": (owners or {}).get(row["workload"])}
        for number, row in enumerate(rows)
    ]
    return Day(
        day=day,
        control_status=CONTROL_STATUS.empty(),
        accounts=ACCOUNT_SCORES.read_as(pl.DataFrame(accounts, infer_schema_length=None)),
        expected=EXPECTED_CONTROLS.empty(),
        controls=pl.DataFrame(schema={"report": pl.String, "control_id": pl.String}),
        workloads=workloads,
        organization=ORGANIZATION_SCORES.read_as(pl.DataFrame([rows[0] | {"score": 50.0}])),
    )


def told(before: Any, after: Any, **settings: Any) -> list[ScoreAlert]:
    return score_alerts(stored(FIRST, [before]), stored(SECOND, [after]), Alerts(**settings))


# --- which ------------------------------------------------------------------------------------


@given(st.floats(0, 100), st.floats(0, 100), st.floats(0.5, 50))
def test_a_score_is_told_of_if_it_dropped_by_more_than_the_set_points(
    before: float, after: float, drop: float
) -> None:
    alerts = told(workload(before), workload(after), score_drop=drop)
    if abs(before - after - drop) > 1e-6:
        assert [each.kind for each in alerts] == ["dropped"] * (before - after > drop)


def test_a_drop_of_exactly_the_set_points_is_not_more() -> None:
    assert told(workload(90.0), workload(85.0), score_drop=5) == []


def test_a_score_that_another_method_or_other_settings_made_did_not_drop() -> None:
    assert told(workload(90.0), workload(50.0, method="3")) == []
    assert told(workload(90.0), workload(50.0, settings_hash="xyz")) == []


def test_a_withheld_score_is_no_drop_but_missing_and_that_is_told_once() -> None:
    [alert] = told(workload(90.0), workload(None))
    assert (alert.kind, alert.after, alert.before) == ("missing", None, 90.0)
    assert alert.reason == "no score on 2026-03-03: account 1 fell silent"
    still = workload(None, last_score=90.0, last_score_date=FIRST)
    assert told(still, still) == []


def test_a_score_that_comes_back_lower_dropped_since_it_was_last_known() -> None:
    away = workload(None, last_score=90.0, last_score_date=date(2026, 2, 27))
    [alert] = told(away, workload(70.0))
    assert (alert.kind, alert.before, alert.since) == ("dropped", 90.0, date(2026, 2, 27))
    assert told(away, workload(89.0)) == []


def test_a_workload_that_is_gone_or_new_is_no_news_of_its_posture() -> None:
    assert told(workload(90.0, "old"), workload(10.0, "new")) == []


def test_only_the_wanted_reports_and_environments_are_told_of() -> None:
    before, after = workload(90.0), workload(10.0)
    assert told(before, after, reports=["fsbp"], environments=["production"])
    assert told(before, after, reports=["cis-v3"]) == []
    assert told(before, after, environments=["test"]) == []


def test_the_biggest_drop_comes_first_and_missing_scores_last() -> None:
    names = ["a", "b", "c"]
    before = stored(FIRST, [workload(90.0, name) for name in names])
    after = stored(SECOND, [workload(80.0, "a"), workload(None, "b"), workload(10.0, "c")])
    found = score_alerts(before, after, Alerts())
    assert [each.values[0] for each in found] == ["c", "a", "b"]


# --- to whom ----------------------------------------------------------------------------------


def alert(name: str, *owners: str) -> ScoreAlert:
    values = (name, "production")
    return ScoreAlert("dropped", "workload", values, "fsbp", 90.0, FIRST, 50.0, None, owners)


def test_an_owner_with_a_target_is_told_there_and_everybody_else_in_the_one_place() -> None:
    settings = Alerts(to=(TOPIC,), owners={"team-payments": (PAYMENTS,), "team-quiet": ()})
    mine, theirs = alert("payments", "team-payments"), alert("webshop", "team-web")
    nobodys, both = alert("unowned"), alert("shared", "team-payments", "team-web")
    quiet = alert("sandbox", "team-quiet")
    assert by_target([mine, theirs, nobodys, both, quiet], settings) == {
        PAYMENTS: [mine, both],
        TOPIC: [theirs, nobodys, both],
    }


def test_two_owners_with_one_target_are_told_once() -> None:
    settings = Alerts(owners={"a": (TOPIC,), "b": (TOPIC,)})
    shared = alert("shared", "a", "b")
    assert by_target([shared], settings) == {TOPIC: [shared]}


def test_owners_of_a_workload_are_those_of_its_accounts() -> None:
    before = stored(FIRST, [workload(90.0)])
    after = stored(SECOND, [workload(10.0)], {"payments": "team-payments"})
    [found] = score_alerts(before, after, Alerts())
    assert found.owners == ("team-payments",)


def test_a_drop_of_the_organization_is_told_in_the_one_place() -> None:
    before, after = stored(FIRST, [workload(90.0)]), stored(SECOND, [workload(90.0)])
    organization = after.organization.with_columns(score=pl.lit(10.0))
    lower = dataclasses.replace(after, organization=organization)
    [found] = score_alerts(before, lower, Alerts(environments=("test",)))
    assert (found.scope, found.values, found.owners) == ("organization", (), ())
    assert by_target([found], Alerts(to=(TOPIC,), owners={"a": (PAYMENTS,)})) == {TOPIC: [found]}


def test_a_change_has_one_name_and_another_change_another() -> None:
    keys = {alert("payments").key, alert("webshop").key}
    assert len(keys) == 2
    assert alert("payments").key == alert("payments", "somebody").key


# --- channels ---------------------------------------------------------------------------------

hostile = st.text(max_size=400)


@given(hostile)
def test_a_subject_is_what_sns_takes(title: str) -> None:
    text = subject(Message(title, ()))
    assert text.isascii()
    assert text.isprintable()
    assert 0 < len(text) <= SUBJECT_LENGTH


@given(hostile, st.lists(hostile, max_size=3))
def test_nothing_in_a_text_steers_a_terminal(title: str, paragraphs: list[str]) -> None:
    text = plain_text(Message(title, tuple(paragraphs)))
    assert all(each.isprintable() or each == "\n" for each in text)


@given(hostile, st.lists(st.text("<>&!*a\n", max_size=4000), max_size=3))
def test_slack_finds_nothing_to_interpret_and_no_text_too_long(
    title: str, paragraphs: list[str]
) -> None:
    payload = slack_payload(Message(title, tuple(paragraphs)))
    header, *sections = payload["blocks"]
    assert len(header["text"]["text"]) <= HEADER_LENGTH
    for text in (payload["text"], *(section["text"]["text"] for section in sections)):
        assert not set(text) & {"<", ">"}
        assert text.count("&") == sum(text.count(each) for each in ("&amp;", "&lt;", "&gt;"))
    assert all(0 < len(each["text"]["text"]) <= SECTION_LENGTH for each in sections)
    assert json.loads(json.dumps(payload)) == payload


def test_the_link_of_a_message_can_be_followed() -> None:
    message = Message("A title", (), "https://dagster.example.com/runs/1?a=1&b=2")
    [_, section] = slack_payload(message)["blocks"]
    assert section["text"]["text"] == "<https://dagster.example.com/runs/1?a=1&amp;b=2>"
    assert plain_text(message).endswith("https://dagster.example.com/runs/1?a=1&b=2")


def test_a_mention_of_everybody_is_shown_and_not_made() -> None:
    assert slack_escaped("<!channel>") == "&lt;!channel&gt;"


def test_a_message_is_cut_before_sns_refuses_it() -> None:
    text = plain_text(Message("Long", ("é" * SNS_BYTES,)))
    assert len(text.encode()) <= SNS_BYTES + 4
    assert text.endswith("...")


def test_a_title_says_how_many_scores_or_which() -> None:
    one = alert("payments")
    missing = ScoreAlert(
        "missing", "workload", ("a", "test"), "fsbp", 90.0, FIRST, None, "silent", ()
    )
    assert score_title([one], SECOND) == (
        "Security posture of 2026-03-03: payments production, fsbp dropped from 90.0 to 50.0"
    )
    assert score_title([one, one, missing], SECOND) == (
        "Security posture of 2026-03-03: 2 scores dropped, 1 score missing"
    )


# --- settings ---------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [TOPIC, "env:HOOK", "file:/run/secrets/hook"])
def test_a_target_is_a_topic_or_a_place_with_an_address(target: str) -> None:
    assert Alerts(to=(target,)).to == (target,)


@pytest.mark.parametrize("target", ["arn:aws:sqs:eu-west-1:111122223333:q", "HOOK", "env:", ""])
def test_another_target_is_refused(target: str) -> None:
    with pytest.raises(ValueError, match="must be the ARN of an SNS topic"):
        Alerts(to=(target,))


@pytest.mark.parametrize(
    ("written", "meant"), [("12:00", time(12)), (720, time(12)), ("9:30", time(9, 30))]
)
def test_a_time_of_day_may_be_quoted_or_not(written: object, meant: time) -> None:
    """YAML reads an unquoted 12:00 as a number in base 60."""
    assert Alerts.model_validate({"snapshot_by": written}).snapshot_by == meant


@pytest.mark.parametrize("written", ["24:00", "noon", 1440, True, "12:60"])
def test_another_time_of_day_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="must be a time of the day"):
        Alerts.model_validate({"snapshot_by": written})


def test_a_report_that_is_told_of_must_be_there() -> None:
    with pytest.raises(ValueError, match=r"alerts\.reports names nope"):
        Settings.model_validate({"alerts": {"reports": ["nope"]}})
