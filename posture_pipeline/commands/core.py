"""The commands of `posture`, each as a function from its arguments to an exit code.

How arguments are read stands in `cli.py`, how rows are printed in `output.py`.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posture_pipeline.errors import InputError

if TYPE_CHECKING:
    import polars as pl
    from rich.table import Table

    from posture_pipeline import schemas
    from posture_pipeline.aws.clients import AwsClients
    from posture_pipeline.aws.permissions import PermissionResult
    from posture_pipeline.lake.store import Lake
    from posture_pipeline.resources import SnapshotSource
    from posture_pipeline.settings import Settings

SETTINGS_FILE = "posture.yaml"
DEMO_FILE = "demo.json"
"""In a bucket: marks the lake as a demo, with the organization that it is of."""

TREND_DAYS = 14
"""Days of a trend in the terminal."""
TREND = f"{TREND_DAYS} days"
LEAST = ("assumed", "no data", "unknown", "carried", "resource score", "failed findings", TREND)
"""Columns of scores that a narrow terminal does without, in this order."""

Trends = dict[tuple[str, ...], str]
"""The last days' scores in blocks, by scope and report."""

DEMO_HOUR = time(6, tzinfo=UTC)
"""When the demo's days are collected."""


# --- running ----------------------------------------------------------------------------------


def demo(arguments: argparse.Namespace) -> int:
    """Simulates an organization for some days and scores each, as the daily run would."""
    from posture_pipeline.aws.clients import AwsClients
    from posture_pipeline.commands.output import Progress
    from posture_pipeline.resources import AwsSource
    from posture_pipeline.running import dagster_instance, run_day
    from posture_pipeline.simulation.server import serve
    from posture_pipeline.simulation.settings import SimulationSettings

    today = datetime.now(UTC).date()
    days = [today - timedelta(days=back) for back in reversed(range(arguments.days))]
    settings = _demo_settings(arguments, days[0])
    simulation = SimulationSettings(
        seed=arguments.seed, accounts=arguments.accounts, rate_limit=None
    )
    print(
        f"Simulating an organization of {arguments.accounts} accounts from "
        f"{days[0].isoformat()} to {today.isoformat()}, one run of the pipeline a day."
    )
    with serve(simulation) as server, Progress() as progress:
        # Not by the settings: a lake on S3 is not where the simulated organization is.
        source = AwsSource(settings, AwsClients(settings.aws, endpoint_url=server.url))
        with dagster_instance(settings) as instance:
            for number, day in enumerate(days, 1):
                server.set_clock(datetime.combine(day, DEMO_HOUR))
                progress.prefix = f"Day {number} of {len(days)} ({day.isoformat()}): "
                progress("starting")
                run_day(settings, day, instance=instance, tell=progress, source=source)
    where = settings.lake if "://" in settings.lake else Path(settings.lake)
    print()
    show_scores(settings, today)
    is_default = Path(arguments.lake) == Path("demo")
    option = "" if is_default else f" --lake {shlex.quote(arguments.lake)}"
    print(f"Lake:           {where}")
    print(f"DuckDB catalog: {where}/posture.duckdb")
    posture = _posture_command()
    print(
        "\nNext:\n"
        + ("  make up\n" if not option else f"  {posture} up{option}\n")
        + "      the Dagster UI on this lake: runs, lineage, checks, daily partitions\n"
        f"  {posture} controls --report fsbp --workload payments --environment production{option}\n"
        "      what fails in one workload\n"
        f"  {posture} explain --report fsbp --organization{option}\n"
        "      what changed since yesterday, and why\n"
        f"  {posture} report --open{option}\n"
        "      the pages: scores, trends, what changed and why, what to fix\n"
        f"  {posture} query \"FROM trend('payments', 'production')\"{option}\n"
        "      how it came to that, in SQL\n"
        f"  {posture} init\n"
        "      settings for your own AWS organization; then check, then run"
    )
    return 0


def simulate(arguments: argparse.Namespace) -> int:
    """Runs the simulated organization until Ctrl-C."""
    from posture_pipeline.simulation.server import run_forever
    from posture_pipeline.simulation.settings import SimulationSettings

    defaults = SimulationSettings()
    simulation = SimulationSettings(
        seed=arguments.seed,
        accounts=arguments.accounts,
        resources_per_account=arguments.resources,
        control_finding_generator=(
            "STANDARD_CONTROL" if arguments.per_standard else "SECURITY_CONTROL"
        ),
        rate_limit=None if arguments.no_rate_limit else defaults.rate_limit,
    )
    run_forever(
        simulation.realistic() if arguments.realistic else simulation,
        arguments.port,
        now=arguments.now,
        echo=lambda line: print(line, flush=True),
    )
    return 0


def run(arguments: argparse.Namespace) -> int:
    """Collects, scores and publishes one day."""
    settings = settings_of(arguments)
    if settings.simulation is not None:
        print(
            "Using the simulated organization. For your own: posture init, then posture check.",
            file=sys.stderr,
        )
    return run_one(settings, arguments.date or datetime.now(UTC).date(), arguments)


def run_one(
    settings: Settings,
    day: date,
    arguments: argparse.Namespace,
    source: SnapshotSource | None = None,
) -> int:
    """Runs one day and shows what came of it."""
    from posture_pipeline.commands.output import Progress
    from posture_pipeline.commands.replay import update_later_days
    from posture_pipeline.opening import open_lake
    from posture_pipeline.running import dagster_instance, run_day
    from posture_pipeline.schemas import MERGED_FINDINGS

    with Progress() as progress, dagster_instance(settings) as instance:
        done = run_day(settings, day, instance=instance, tell=progress, source=source)
    lake = open_lake(settings)
    merged = lake.require(MERGED_FINDINGS.name, day)
    print(
        f"{day.isoformat()}: {merged.details['records']:,} records are {merged.rows:,} findings, "
        f"{merged.details['duplicates']:,} duplicates and "
        f"{merged.details['quarantined']:,} quarantined."
    )
    for warning in done.warnings:
        print(f"Note: {warning}")
    for line in update_later_days(settings, lake, day):
        print(line)
    print()
    show_scores(settings, day)
    option = _option_of(arguments, settings)
    posture = _posture_command()
    print(
        f"Lake: {settings.lake}\nDagster run: {done.run_id}\n"
        f"Next: {posture} scores{option}, {posture} controls --report ...{option}, "
        f"{posture} up{option}"
    )
    return 0


def up(arguments: argparse.Namespace) -> int:
    """Becomes `dagster dev` on the lake's own Dagster home."""
    from posture_pipeline.running import HOME_VARIABLE, prepare_home
    from posture_pipeline.settings import LAKE_VARIABLE, SETTINGS_VARIABLE, find_settings

    settings = settings_of(arguments)
    home = prepare_home(settings)
    config = arguments.config or own_settings(arguments.lake) or find_settings(os.environ)
    environment = {**os.environ, HOME_VARIABLE: str(home)}
    if config is not None:
        environment[SETTINGS_VARIABLE] = str(Path(config).resolve())
        # Dagster warns of a dagster.yaml in the working folder that is not the home's.
        os.chdir(home)
    if "://" in (arguments.lake or ""):
        environment[LAKE_VARIABLE] = settings.lake
    print(
        f"Dagster UI on {settings.lake}: http://{arguments.host}:{arguments.port} (Ctrl-C ends it)"
    )
    sys.stdout.flush()
    command = [
        sys.executable,
        "-m",
        "dagster",
        "dev",
        "--module-name",
        "posture_pipeline.definitions",
        "--host",
        arguments.host,
        "--port",
        str(arguments.port),
    ]
    os.execve(sys.executable, command, environment)  # noqa: S606 - our own interpreter


# --- reading ----------------------------------------------------------------------------------


def scores(arguments: argparse.Namespace) -> int:
    """Shows the scores of a day."""
    from posture_pipeline.commands.output import print_rows
    from posture_pipeline.lake import control_notes
    from posture_pipeline.schemas import table

    settings = settings_of(arguments)
    lake = existing_lake(settings)
    scope = table(f"{arguments.scope}_scores")
    day = arguments.date or _newest(lake, scope.name)
    rows = lake.read(scope, day, method=arguments.method).sort(
        [name for name in scope.key if name != "account_id"]
    )
    if arguments.report is not None:
        rows = _only(rows, "report", arguments.report, day)

    def as_tables(rows: pl.DataFrame) -> Sequence[Table]:
        trends = _trends(lake, scope, rows, day)
        if arguments.report is None:
            return _overviews(rows, arguments.scope, settings, day, trends)
        return [_one_report(rows, arguments.scope, settings, day, trends)]

    print_rows(rows, arguments.format, as_tables, first_to_go=LEAST)
    if arguments.format == "table":
        if arguments.report is None:
            _print_reasons(rows, arguments.scope)
        shown = set(rows["report"])
        for report, note in control_notes.notes_of(lake, day).items():
            if report in shown:
                print(f"Note on {report}: {note}")
    return 0


def is_workload(arguments: argparse.Namespace) -> bool:
    """Whether a workload and environment are named, and not an account.

    Raises:
        InputError: Both are named, neither is, or a workload without an environment.
    """
    of_workload = arguments.workload is not None and arguments.environment is not None
    half = (arguments.workload is None) != (arguments.environment is None)
    if half or of_workload == (arguments.account is not None):
        message = "Name either --account ID, or --workload W and --environment E."
        raise InputError(message)
    return of_workload


def controls(arguments: argparse.Namespace) -> int:
    """Shows the controls of an account, or of a workload and environment."""
    import polars as pl

    from posture_pipeline.commands.output import print_rows
    from posture_pipeline.lake import snapshot
    from posture_pipeline.model.scoring import status_in_scope
    from posture_pipeline.schemas import ACCOUNT_SCORES, CONTROL_STATUS, WORKLOAD_SCORES

    of_workload = is_workload(arguments)
    settings = settings_of(arguments)
    lake = existing_lake(settings)
    day = arguments.date or _newest(lake, CONTROL_STATUS.name)
    rows = _only(lake.read(CONTROL_STATUS, day), "report", arguments.report, day)
    if of_workload:
        accounts = lake.read(ACCOUNT_SCORES, day).unique("account_id")
        accounts = _only(accounts, "workload", arguments.workload, day)
        accounts = _only(accounts, "environment", arguments.environment, day)
        keys = ["workload", "environment"]
        rows = rows.join(accounts.select("account_id", *keys), on="account_id")
        scope = status_in_scope(rows.lazy(), ["date", "report_kind", *keys]).collect()
        order = [name if name != "account_id" else keys for name in CONTROL_STATUS.names]
        rows = scope.select(pl.col(name) for name in order)
        title = f"{arguments.workload} {arguments.environment}"
    else:
        rows = _only(rows, "account_id", arguments.account, day)
        title = f"account {arguments.account}"
    here = pl.col("report") == arguments.report
    if of_workload:
        table = WORKLOAD_SCORES
        here &= (pl.col("workload") == arguments.workload) & (
            pl.col("environment") == arguments.environment
        )
    else:
        table, here = ACCOUNT_SCORES, here & (pl.col("account_id") == arguments.account)
    for reason in lake.scan(table, day).filter(here).collect()["reason"].drop_nulls():
        print(f"There is no score ({reason}); these controls may lack findings.", file=sys.stderr)
    expected = snapshot.expected_of(lake, [settings.report(arguments.report)], day)
    worst_first = {"FAILED": 0, "UNKNOWN": 1, "PASSED": 2, "NO_DATA": 3}
    severities = {"CRITICAL": 0, "HIGH": 1, "MEDIUM": 2, "LOW": 3}
    rows = rows.join(expected.select("control_id", "title"), on="control_id", how="left").sort(
        pl.col("status").replace_strict(worst_first, default=9),
        pl.col("severity").replace_strict(severities, default=9),
        "control_id",
    )
    print_rows(
        rows,
        arguments.format,
        lambda rows: _controls_table(rows, f"{arguments.report}, {title}, {day.isoformat()}"),
        first_to_go=("suppressed", "unknown", "passed"),
    )
    return 0


def query(arguments: argparse.Namespace) -> int:
    """Answers one SQL question over the catalog."""
    from posture_pipeline.commands.output import plain_table, print_rows
    from posture_pipeline.lake.catalog import publish

    rows = publish.query(existing_lake(settings_of(arguments)), arguments.sql)
    print_rows(rows, arguments.format, plain_table)
    return 0


# --- settings ---------------------------------------------------------------------------------


def init(arguments: argparse.Namespace) -> int:
    """Writes the commented settings file."""
    target: Path = arguments.config
    if target.exists() and not arguments.force:
        message = f"{target} is there already; --force replaces it."
        raise InputError(message)
    shipped = files("posture_pipeline").joinpath(SETTINGS_FILE)
    target.write_text(shipped.read_text(encoding="utf-8"), encoding="utf-8")
    print(f"Wrote {target}. Look through it, then: posture check")
    return 0


def check(arguments: argparse.Namespace) -> int:
    """Validates the settings, tries the permissions that a run needs, looks for the reports."""
    from posture_pipeline.aws.permissions import try_permissions
    from posture_pipeline.commands.output import new_table, print_table
    from posture_pipeline.resources import AwsSource, source_of

    settings = settings_of(arguments)
    print(f"The settings are valid: {len(settings.reports)} reports, lake {settings.lake}.")
    with source_of(settings) as source:
        assert isinstance(source, AwsSource)
        results = [*try_permissions(source.clients, settings), *_lake_permissions(settings)]
        missing = [result.action for result in results if result.ok is False and result.required]
        reports = [] if missing else _controls_of_reports(source.clients, settings)
    table = new_table(None, [("Permission", False), ("", False), ("Needed for", False)])
    for result in results:
        word = {True: "[green]ok[/green]", None: "[yellow]not tried[/yellow]"}.get(
            result.ok, "[red]missing[/red]" if result.required else "[yellow]missing[/yellow]"
        )
        table.add_row(result.action, word, f"{result.needed_for}\n[dim]{result.why}[/dim]")
    print_table(table)
    if missing:
        message = f"A run needs permissions that are missing: {', '.join(missing)}."
        raise InputError(message)
    print("A run has every permission it needs.\n")
    table = new_table(None, [("Report", False), ("", False), ("Controls", False)])
    for report, text, ok in reports:
        table.add_row(report, "[green]ok[/green]" if ok else "[red]not found[/red]", text)
    print_table(table)
    if lost := [report for report, _, ok in reports if not ok]:
        message = f"Reports of the settings that cannot be scored: {', '.join(lost)}."
        raise InputError(message)
    return 0


def _controls_of_reports(clients: AwsClients, settings: Settings) -> list[tuple[str, str, bool]]:
    """Of each report: its enabled controls, or what AWS says of them; whether it can be scored."""
    from posture_pipeline.aws.controls import listed_controls
    from posture_pipeline.errors import AwsError, CredentialsError
    from posture_pipeline.model.expected import (
        FROM_FINDINGS,
        KEPT_UNTIL_READY,
        controls_of_settings,
    )

    today = clients.now().date()
    found: list[tuple[str, str, bool]] = []
    for report in settings.reports:
        try:
            listing = listed_controls(clients, [report], day=today)
        except CredentialsError:
            raise
        except AwsError as error:
            found.append((report.name, str(error), False))
            continue
        if report.definition in listing.unlisted:
            unlisted = listing.unlisted[report.definition]
            then = FROM_FINDINGS if unlisted.kind == "not_enabled" else KEPT_UNTIL_READY
            found.append((report.name, f"{unlisted.reason} {then}", True))
            continue
        controls = listing.controls["enabled"].sum() or controls_of_settings([report], today).height
        found.append((report.name, f"{controls:,} enabled", True))
    return found


def _lake_permissions(settings: Settings) -> Iterator[PermissionResult]:
    """What a run needs of the lake; a folder needs nothing of AWS."""
    from posture_pipeline.aws.permissions import PermissionResult
    from posture_pipeline.lake.permissions import S3_ACTIONS, tried
    from posture_pipeline.opening import open_lake

    if "://" not in settings.lake:
        return
    for action, error in tried(open_lake(settings)):
        why = "allowed" if error is None else str(error)
        yield PermissionResult(action, error is None, why, f"the lake: {S3_ACTIONS[action]}")


def settings_of(arguments: argparse.Namespace) -> Settings:
    """The settings that `--config`, `--lake`, the environment or the folder name.

    Raises:
        SettingsError: They are not valid.
        InputError: The settings file that was named is not there.
    """
    from posture_pipeline.settings import find_settings, load_settings

    config: Path | None = arguments.config
    if config is not None and not config.is_file():
        message = f"There is no settings file {config}; `posture init` writes one."
        raise InputError(message)
    own = own_settings(arguments.lake)
    if config is None and arguments.lake is not None and "://" not in arguments.lake:
        settings = load_settings(own)
        return settings if own else settings.model_copy(update={"lake": arguments.lake})
    settings = load_settings(config or find_settings(os.environ))
    if arguments.lake is not None:
        settings = settings.model_copy(update={"lake": arguments.lake})
    return settings


def existing_lake(settings: Settings) -> Lake:
    """The lake of the settings, for reading.

    Raises:
        InputError: There is none.
    """
    from posture_pipeline.opening import open_lake

    if "://" not in settings.lake and not Path(settings.lake).is_dir():
        message = (
            f"There is no lake at {settings.lake} yet. Run posture demo, posture run or "
            f"posture import first, or name another with --lake or --config."
        )
        raise InputError(message)
    return open_lake(settings)


def has_settings(arguments: argparse.Namespace) -> bool:
    """Whether there is a settings file that `settings_of` would read."""
    named = arguments.config or own_settings(arguments.lake)
    return (
        named is not None or bool(os.environ.get("POSTURE_CONFIG")) or Path(SETTINGS_FILE).is_file()
    )


def own_settings(lake: str | None) -> Path | None:
    """The settings file inside a lake's folder, if it has one; a bucket holds none."""
    own = Path(lake or ".") / SETTINGS_FILE
    return own if lake is not None and own.is_file() else None


def _demo_settings(arguments: argparse.Namespace, first: date) -> Settings:
    """Writes the demo's settings into its lake, so that later commands find them."""
    import yaml

    from posture_pipeline.settings import DEMO_REPORTS, Simulation, load_settings

    simulation = {"seed": arguments.seed, "accounts": arguments.accounts}
    if "://" in arguments.lake:
        return _demo_in_a_bucket(arguments.lake, simulation)
    folder = Path(arguments.lake)
    path = folder / SETTINGS_FILE
    start = first
    if path.is_file():
        settings = load_settings(path)
        if settings.simulation != Simulation(**simulation):
            message = (
                f"{folder} holds another lake (its {SETTINGS_FILE} differs). "
                f"Remove it, or choose another folder with --lake."
            )
            raise InputError(message)
        start = min(first, settings.start_date)
    elif folder.exists() and any(folder.iterdir()):
        message = f"{folder} is not empty and holds no demo; choose another with --lake."
        raise InputError(message)
    folder.mkdir(parents=True, exist_ok=True)
    raw = {
        "lake": ".",
        "start_date": start,
        "simulation": simulation,
        "reports": [report.model_dump(mode="json", exclude_unset=True) for report in DEMO_REPORTS],
    }
    path.write_text(
        "# Settings of the demo: the simulated organization instead of AWS.\n"
        + yaml.safe_dump(raw, sort_keys=False),
        encoding="utf-8",
    )
    return load_settings(path)


def _demo_in_a_bucket(lake: str, simulation: dict[str, int]) -> Settings:
    """The demo's settings for a bucket, which is reached as the settings here say.

    Raises:
        InputError: Another lake is there.
    """
    from posture_pipeline.opening import open_lake
    from posture_pipeline.settings import (
        DEMO_REPORTS,
        Settings,
        Simulation,
        find_settings,
        load_settings,
    )

    found = load_settings(find_settings(os.environ))
    settings = Settings(
        lake=lake,
        s3=found.s3,
        aws=found.aws,
        simulation=Simulation(**simulation),
        reports=DEMO_REPORTS,
    )
    bucket = open_lake(settings)
    folders, objects = bucket.names("")
    if (folders or objects) and bucket.get_json(DEMO_FILE) != simulation:
        message = f"{lake} holds another lake; choose another prefix with --lake."
        raise InputError(message)
    bucket.put_json(DEMO_FILE, simulation)
    return settings


# --- tables for people ------------------------------------------------------------------------


def _newest(lake: Lake, name: str) -> date:
    day = lake.last_day(name)
    if day is None:
        message = (
            f"The lake {lake.root} has no scores yet. Run posture run or posture import first."
        )
        raise InputError(message)
    return day


def _only(rows: pl.DataFrame, column: str, value: str, day: date) -> pl.DataFrame:
    """The rows with that value; an error that names the ones there are, when there are none."""
    import polars as pl

    kept = rows.filter(pl.col(column) == value)
    if kept.height:
        return kept
    known = rows[column].drop_nulls().unique().sort().to_list()
    shown = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
    label = column.replace("_id", "")
    message = f"On {day.isoformat()} there is no {label} {value!r}; there are: {shown or 'none'}."
    raise InputError(message)


_SCOPE_COLUMNS = {
    "account": ["account_id", "account_name"],
    "workload": ["workload", "environment"],
    "organization": [],
}


def show_scores(settings: Settings, day: date) -> None:
    """Prints the scores of every workload and of the organization."""
    from posture_pipeline.commands.output import print_table
    from posture_pipeline.opening import open_lake
    from posture_pipeline.schemas import ORGANIZATION_SCORES, WORKLOAD_SCORES

    lake = open_lake(settings)
    for scope, table in (("workload", WORKLOAD_SCORES), ("organization", ORGANIZATION_SCORES)):
        rows = lake.read(table, day)
        print_table(*_overviews(rows, scope, settings, day, _trends(lake, table, rows, day)))
        _print_reasons(rows, scope)


def _print_reasons(rows: pl.DataFrame, scope: str) -> None:
    """Prints why scores of an overview are missing, a line for each scope and reason."""
    import polars as pl

    from posture_pipeline.commands.output import cell

    keys = _SCOPE_COLUMNS[scope]
    missing = rows.filter(pl.col("score").is_null()).sort(*keys, "report")
    for (*place, reason), of_reason in missing.group_by(*keys, "reason", maintain_order=True):
        where = " ".join(cell(part) for part in place if part) or "the organization"
        reports = ", ".join(
            f"{row['report']}{_last_score(row)}" for row in of_reason.iter_rows(named=True)
        )
        print(f"No score of {where} in {reports}: {cell(reason)}.")


def _incomplete(rows: pl.DataFrame) -> str:
    """What the snapshot lacks, for a title."""
    lacks = rows["incomplete"].drop_nulls().unique().sort()
    return f" (incomplete: {'; '.join(lacks)})" if lacks.len() else ""


def _overviews(
    rows: pl.DataFrame, scope: str, settings: Settings, day: date, trends: Trends | None
) -> list[Table]:
    """The overview with the last days beside each score, if these can be shown, and without."""
    plain = _overview(rows, scope, settings, day, {})
    return [plain] if trends is None else [_overview(rows, scope, settings, day, trends), plain]


def _overview(
    rows: pl.DataFrame, scope: str, settings: Settings, day: date, trends: Trends
) -> Table:
    """One row a scope, one column a report."""
    from rich.markup import escape

    from posture_pipeline.commands.output import cell, new_table, score_cell

    keys = _SCOPE_COLUMNS[scope]
    reports = rows["report"].unique().sort().to_list()
    table = new_table(
        f"Scores by {scope}, {day.isoformat()}{_incomplete(rows)}",
        [
            *((key.replace("_", " "), False) for key in keys),
            *((report, True) for report in reports),
        ],
    )
    wide = rows.select(*keys, "report", "score").sort(keys or ["report"])
    scores_of: dict[tuple[str, ...], dict[str, float | None]] = {}
    for *place, report, score in wide.iter_rows():
        scores_of.setdefault(tuple(place), {})[report] = score
    for scope_place, by_report in scores_of.items():
        table.add_row(
            *(escape(cell(part)) for part in scope_place),
            *(
                f"{_beside(trends.get((*scope_place, report)), by_report.get(report))}"
                f"{score_cell(by_report.get(report), settings.thresholds)}"
                for report in reports
            ),
        )
    return table


def _beside(trend: str | None, score: float | None) -> str:
    """The last days before a score, below each other whatever the score."""
    if not trend:
        return ""
    text = "-" if score is None else f"{score:.1f}"
    return f"[dim]{trend}[/dim]{' ' * (len(' 100.0') - len(text))}"


def _trends(lake: Lake, table: schemas.Table, rows: pl.DataFrame, day: date) -> Trends | None:
    """The last days' scores of each scope and report in blocks; null where they cannot show."""
    import polars as pl

    from posture_pipeline.commands.output import shows_blocks
    from posture_pipeline.sparkline import sparkline

    if not shows_blocks():
        return None
    first = day - timedelta(days=TREND_DAYS - 1)
    beyond, before = day + timedelta(days=1), first - timedelta(days=1)
    days = sorted(lake.days_before(table.name, beyond, after=before))
    keys = [*_SCOPE_COLUMNS[table.name.removesuffix("_scores")], "report"]
    shown = pl.col("report").is_in(rows["report"].unique().to_list())
    past = lake.scan(table, days).filter(shown).select("date", *keys, "score").collect()
    scores: dict[tuple[str, ...], dict[date, float | None]] = {}
    for when, *place, score in past.iter_rows():
        scores.setdefault(tuple(place), {})[when] = score
    calendar = [first + timedelta(days=number) for number in range(TREND_DAYS)]
    return {
        place: sparkline([by_day.get(each) for each in calendar])
        for place, by_day in scores.items()
    }


def _one_report(
    rows: pl.DataFrame,
    scope: str,
    settings: Settings,
    day: date,
    trends: Trends | None,
) -> Table:
    """One row a scope with what its score counts, lowest score first."""
    from rich.markup import escape

    from posture_pipeline.commands.output import cell, new_table, score_cell

    keys = _SCOPE_COLUMNS[scope]
    # What is zero everywhere only takes the room of what is not.
    rare = [name for name in ("unknown", "no_data", "assumed", "carried") if rows[name].sum()]
    counts = ["passed", "failed", *rare, "failed_findings"]
    reasons = [_why_no_score(row) for row in rows.iter_rows(named=True)]
    table = new_table(
        f"{rows['report'][0]} by {scope}, {day.isoformat()}{_incomplete(rows)}",
        [
            *((key.replace("_", " "), False) for key in keys),
            ("score", True),
            *([(TREND, False)] if trends is not None else []),
            ("resource score", True),
            *((count.replace("_", " "), True) for count in counts),
            *([("reason", False)] if any(reasons) else []),
        ],
    )
    for column in table.columns:
        column.no_wrap = column.no_wrap or column.header == TREND
    for row in rows.sort("score", nulls_last=True).iter_rows(named=True):
        table.add_row(
            *(escape(cell(row[key])) for key in keys),
            score_cell(row["score"], settings.thresholds),
            *([trends.get(_place(row, keys), "")] if trends is not None else []),
            score_cell(row["resource_score"], settings.thresholds),
            *(cell(row[count]) for count in counts),
            *([escape(_why_no_score(row))] if any(reasons) else []),
        )
    return table


def _place(row: dict[str, Any], keys: Sequence[str]) -> tuple[str, ...]:
    return (*(row[key] for key in keys), row["report"])


def _why_no_score(row: dict[str, Any]) -> str:
    """The reason of a missing score, with the last one there was."""
    return f"{row['reason'] or ''}{_last_score(row)}"


def _last_score(row: dict[str, Any]) -> str:
    if row["last_score"] is None:
        return ""
    return f" (last: {row['last_score']:.2f} on {row['last_score_date'].isoformat()})"


def _controls_table(rows: pl.DataFrame, title: str) -> Table:
    from rich.markup import escape

    from posture_pipeline.commands.output import cell, new_table

    colours = {"FAILED": "red", "UNKNOWN": "yellow", "PASSED": "green", "NO_DATA": "dim"}
    columns = ["passed_findings", "failed_findings", "unknown_findings", "suppressed_findings"]
    table = new_table(
        title,
        [
            ("status", False),
            ("severity", False),
            ("control", False),
            *((column.removesuffix("_findings"), True) for column in columns),
            ("title", False),
        ],
    )
    for row in rows.iter_rows(named=True):
        colour = colours.get(row["status"], "")
        assumed = " (assumed)" if row["basis"] == "assumed" else ""
        table.add_row(
            f"[{colour}]{row['status']}[/{colour}]{assumed}",
            cell(row["severity"]),
            escape(row["control_id"]),
            *(cell(row[column]) for column in columns),
            escape(cell(row["title"])),
        )
    return table


def _option_of(arguments: argparse.Namespace, settings: Settings) -> str:
    if arguments.config is not None:
        lake = "" if arguments.lake is None else f" --lake {shlex.quote(settings.lake)}"
        return f" --config {shlex.quote(str(arguments.config))}{lake}"
    if arguments.lake is not None or not Path(SETTINGS_FILE).is_file():
        return f" --lake {shlex.quote(settings.lake)}"
    return ""


def _posture_command() -> str:
    """How this command was started: people may not have it on their path."""
    started = Path(sys.argv[0])
    if started.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m posture_pipeline"
    on_path = shutil.which(started.name)
    if on_path is not None and Path(on_path).resolve() == started.resolve():
        return started.name
    relative = os.path.relpath(started)
    return shlex.quote(str(started) if relative.startswith("..") else relative)
