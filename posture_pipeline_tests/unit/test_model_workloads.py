"""Accounts find their workload, environment and owner."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posture_pipeline.errors import SettingsError
from posture_pipeline.model.workloads import (
    OVERRIDES_SCHEMA,
    complete_accounts,
    parse_overrides,
    resolve_workloads,
)
from posture_pipeline.schemas import ORGANIZATION_ACCOUNTS
from posture_pipeline.settings import Accounts

ONE, TWO, THREE = "011122223333", "444455556666", "777788889999"
DAY = date(2026, 11, 23)


def account(name: str | None = None, account_id: str = ONE, **tags: str) -> dict[str, Any]:
    return {
        "date": DAY,
        "account_id": account_id,
        "account_name": name,
        "state": "ACTIVE",
        "tags": json.dumps(tags),
        "source": "organizations",
    }


def listed(*rows: dict[str, Any]) -> pl.DataFrame:
    return (
        ORGANIZATION_ACCOUNTS.read_as(pl.DataFrame(list(rows)))
        if rows
        else ORGANIZATION_ACCOUNTS.empty()
    )


def overrides(*rows: tuple[str | None, ...]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=OVERRIDES_SCHEMA, orient="row")


def resolved(
    row: dict[str, Any], over: pl.DataFrame | None = None, **settings: Any
) -> tuple[Any, ...]:
    frame = resolve_workloads(listed(row), Accounts(**settings), over)
    return frame.select("workload", "environment", "owner", "workload_source").row(0)


@pytest.mark.parametrize(
    ("name", "workload", "environment"),
    [
        ("xebia-my-workload-development", "my-workload", "development"),
        ("xebia-log-archive", "log-archive", "production"),
        ("Xebia-Shop-TEST", "Shop", "test"),
        ("  xebia-shop-build ", "shop", "build"),
        ("xebia-shop-prod", "shop-prod", "production"),
    ],
)
def test_a_name_gives_workload_and_environment(name: str, workload: str, environment: str) -> None:
    assert resolved(account(name)) == (workload, environment, None, "name")


@pytest.mark.parametrize("name", ["nodash", "xebia-development", "xebia-", "-shop", "x\u00e9bia"])
def test_a_name_that_says_nothing_is_its_own_workload(name: str) -> None:
    assert resolved(account(name)) == (name, "unknown", None, "account_name")


@pytest.mark.parametrize("name", [None, "", "  "])
def test_without_any_name_the_account_id_is_the_workload(name: str | None) -> None:
    assert resolved(account(name)) == (ONE, "unknown", None, "account_name")


def test_tags_go_before_the_name_and_overrides_before_tags() -> None:
    row = account("xebia-a-test", workload=" Shop ", environment="Production", owner="team-t")
    assert resolved(row) == ("Shop", "production", "team-t", "tags")
    over = overrides((ONE, "web", "Acceptance", "team-o"))
    assert resolved(row, over) == ("web", "acceptance", "team-o", "overrides")


def test_an_environment_that_the_first_source_leaves_open_comes_from_the_next() -> None:
    assert resolved(account("xebia-a-test", workload="shop"))[:2] == ("shop", "test")
    assert resolved(account("xebia-a", workload="shop"))[:2] == ("shop", "production")
    assert resolved(account("xebia-a", environment="build"))[:2] == ("a", "build")
    assert resolved(account("xebia-a", environment="Build"), overrides((ONE, "w", None, None)))[
        :2
    ] == ("w", "build")


def test_the_owner_comes_from_overrides_or_tags_whatever_gave_the_workload() -> None:
    assert resolved(account("xebia-a-test", owner="team"))[2:] == ("team", "name")
    row = account("xebia-a-test", owner="team")
    assert resolved(row, overrides((ONE, None, None, "other")))[2:] == ("other", "name")


def test_names_of_tags_and_the_pattern_can_be_set() -> None:
    tags = {"workload": "app", "environment": "stage", "owner": "squad"}
    row = account("x", app="shop", stage="Test", squad="a")
    assert resolved(row, tags=tags) == ("shop", "test", "a", "tags")
    assert resolved(account("shop.qa"), name_pattern=r"^(?P<workload>\w+)\.(?P<environment>\w+)$")[
        :2
    ] == ("shop", "qa")


@pytest.mark.parametrize("tags", [None, "", "[]", "{", '{"workload": 5}', '{"workload": " "}'])
def test_tags_that_cannot_be_read_are_no_tags(tags: str | None) -> None:
    assert resolved(account("xebia-a-test") | {"tags": tags})[3] == "name"


@given(st.lists(st.none() | st.text(max_size=12), min_size=1, max_size=5))
def test_every_account_is_resolved_whatever_its_name(names: list[str | None]) -> None:
    rows = listed(*(account(name, f"{i:012d}") for i, name in enumerate(names)))
    frame = resolve_workloads(rows, Accounts(), None)
    assert frame.height == len(names)
    required = frame.select("workload", "environment", "workload_source")
    assert required.null_count().sum_horizontal().item() == 0
    assert frame["workload"].str.strip_chars().ne("").all()


def test_accounts_that_only_findings_or_overrides_name_are_added() -> None:
    in_findings = pl.DataFrame(
        {"account_id": [ONE, TWO, TWO], "account_name": ["xebia-one", None, "xebia-two"]}
    )
    frame = complete_accounts(
        listed(account(None)),
        in_findings,
        overrides((TWO, "a", None, None), (THREE, "b", None, None)),
    )
    assert frame.schema == ORGANIZATION_ACCOUNTS.schema
    assert frame.select("account_id", "account_name", "state", "source", "date").rows() == [
        (ONE, "xebia-one", "ACTIVE", "organizations", DAY),
        (TWO, "xebia-two", "ACTIVE", "findings", DAY),
        (THREE, None, "ACTIVE", "overrides", DAY),
    ]


def test_a_listed_account_keeps_its_state_and_name() -> None:
    row = account("xebia-one") | {"state": "SUSPENDED"}
    in_findings = pl.DataFrame({"account_id": [ONE], "account_name": ["older-name"]})
    frame = complete_accounts(listed(row), in_findings, overrides((ONE, "a", None, None)))
    assert frame.select("account_name", "state").rows() == [("xebia-one", "SUSPENDED")]


def test_without_a_list_the_accounts_are_those_of_the_findings() -> None:
    in_findings = pl.DataFrame({"account_id": [TWO, ONE], "account_name": [None, None]})
    frame = complete_accounts(listed(), in_findings, None)
    assert frame["account_id"].to_list() == [ONE, TWO]


SUBSCRIPTION = "0b1f6471-1bf0-4dda-aec3-cb9272f09590"


@pytest.mark.parametrize(
    ("list_of_today", "kept"),
    [
        (listed(), {ONE: "earlier_day", TWO: "earlier_day", SUBSCRIPTION: "connector"}),
        (listed(account("one")), {ONE: "organizations", SUBSCRIPTION: "connector"}),
    ],
    ids=["nobody lists accounts", "the organization lists them"],
)
def test_an_account_of_the_earlier_day_left_only_if_a_list_could_name_it(
    list_of_today: pl.DataFrame, kept: dict[str, str]
) -> None:
    """A subscription is in no list, so it stays one that nobody lists, however long it is away."""
    nothing = pl.DataFrame(schema={"account_id": pl.String, "account_name": pl.String})
    earlier = pl.DataFrame(
        {
            "account_id": [ONE, TWO, SUBSCRIPTION],
            "account_name": ["one", "two", None],
            "source": ["organizations", "findings", "connector"],
        }
    )
    for _ in range(3):
        frame = complete_accounts(list_of_today, nothing, None, earlier=earlier)
        assert dict(frame.select("account_id", "source").iter_rows()) == kept
        assert set(frame["state"]) == {"ACTIVE"}
        earlier = frame.select("account_id", "account_name", "source")


@pytest.mark.parametrize(("unlisted", "state"), [("score", "ACTIVE"), ("ignore", "NOT_LISTED")])
def test_a_setting_says_whether_unlisted_accounts_are_scored(unlisted: Any, state: str) -> None:
    in_findings = pl.DataFrame(
        {
            "account_id": [ONE, TWO, SUBSCRIPTION],
            "account_name": [None, None, None],
            "provider": ["AWS", "AWS", "AZURE"],
        },
        schema_overrides={"account_name": pl.String},
    )
    named = overrides((THREE, "b", None, None))
    frame = complete_accounts(listed(account("one")), in_findings, named, unlisted=unlisted)
    assert {row[0]: row[1:] for row in frame.select("account_id", "source", "state").rows()} == {
        ONE: ("organizations", "ACTIVE"),
        TWO: ("findings", state),
        THREE: ("overrides", state),
        SUBSCRIPTION: ("connector", "ACTIVE"),
    }
    # Where no list could be had, nothing is known to be missing from it.
    alone = complete_accounts(listed(), in_findings, named, unlisted=unlisted)
    assert set(alone["state"]) == {"ACTIVE"}


def test_the_overrides_may_name_a_subscription_of_another_cloud() -> None:
    for written in (SUBSCRIPTION, SUBSCRIPTION.upper(), "azure-111122223333", "my-project-1"):
        rows = parse_overrides(f"account_id,workload\n{written},shop\n", "a.csv")
        assert rows["account_id"].to_list() == [written.lower()]
    for wrong in ("1111-2222-3333", "abc", "-x-", "a/b-c"):
        with pytest.raises(SettingsError, match="not 12 digits"):
            parse_overrides(f"account_id,workload\n{wrong},shop\n", "a.csv")


@pytest.mark.parametrize(
    "text",
    [
        f"account_id,workload,environment,owner\n{ONE},shop,Test,team\n",
        f'\ufeffaccount_id;workload;environment;owner\r\n"{ONE}"; shop ;Test;team\r\n\r\n',
        f"Owner,Environment,Workload,Account_ID\nteam,Test,shop,'{ONE}\n",
        f'account_id,workload,environment,owner\n"=""{ONE}""",shop,Test,team\n',
    ],
)
def test_overrides_are_read_as_spreadsheets_write_them(text: str) -> None:
    assert parse_overrides(text, "a.csv").rows() == [(ONE, "shop", "Test", "team")]


def test_blank_overrides_are_null_and_two_columns_are_enough() -> None:
    assert parse_overrides(f"account_id,workload\n{ONE},\n", "a.csv").rows() == [
        (ONE, None, None, None)
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "line 1: there is no header"),
        ("account_id,workload,team\n", "line 1: the column 'team' is unknown; use account_id"),
        ("account_id,owner\n", "the column 'workload' is missing"),
        ("account_id,workload,workload\n", "there twice"),
        ("account_id,workload\n11122223333,a\n", "line 2: .*is it 011122223333"),
        ("account_id,workload\n1.11E+10,a\n", "line 2: .*rounded by a spreadsheet"),
        ("account_id,workload\nabc,a\n", "line 2: the account id 'abc' is not 12 digits"),
        (f"account_id,workload\n{ONE},a\n\n{ONE},b\n", f"line 4: account {ONE} is on line 2"),
        (f"account_id,workload\n{ONE},a,b\n", "line 2: there are 3 values for 2 columns"),
        (f"account_id,workload,environment\n{ONE},,test\n", "an environment without a workload"),
    ],
)
def test_overrides_that_cannot_be_used_name_the_line_and_the_fix(text: str, says: str) -> None:
    with pytest.raises(SettingsError, match=f"accounts.csv cannot be used: .*{says}"):
        parse_overrides(text, "accounts.csv")
