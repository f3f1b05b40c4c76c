"""The command line: `posture ...`. It reads arguments and prints; what is done stands elsewhere.

Errors go to stderr as one paragraph; the exit code is 0 only when it worked. Imports are made
where they are needed, so that `--help` and the reading commands start quickly.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from posture_pipeline.errors import PostureError

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

DEMO_LAKE = "demo"

Command = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: What follows `posture`; without it the process's own arguments.

    Returns:
        0 when it worked, 1 for an error that was explained, 2 for wrong arguments, 130 after
        Ctrl-C.
    """
    parser = _parser()
    parsed = parser.parse_args(arguments)
    try:
        command: Command = parsed.command
        return command(parsed)
    except PostureError as error:
        _complain(str(error))
        return 1
    except KeyboardInterrupt:
        _complain("Stopped. Run the same command again to go on.")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away (`| head`); nothing is wrong, and nothing to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if (said := _told_of_bucket(error)) is not None:
            _complain(said)
            return 1
        place = f" ({error.filename})" if error.filename else ""
        _complain(f"{error.strerror or error}{place}.")
        return 1


def _told_of_bucket(error: OSError) -> str | None:
    """What a lake on S3 failed for; null for any other error."""
    from posture_pipeline.lake.bucket import told

    said = told(error)
    return None if said is None else str(said)


def _complain(text: str) -> None:
    print(f"posture: {' '.join(text.split())}", file=sys.stderr)


# --- arguments --------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and where help is."""

    def error(self, message: str) -> NoReturn:
        _complain(f"{message}. See {self.prog} --help.")
        raise SystemExit(2)


def _parser() -> argparse.ArgumentParser:
    from posture_pipeline.commands import core as commands

    parser = _Parser(
        prog="posture",
        description="How secure is each AWS workload, is it getting better, and if not, why?",
        epilog="Every command has --help. Start with: posture demo",
    )
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, command: Command, help_: str, *, settings: bool = True) -> _Parser:
        subparser = subparsers.add_parser(name, help=help_, description=help_)
        subparser.set_defaults(command=command)
        if settings:
            subparser.add_argument(
                "--config",
                type=Path,
                metavar="FILE",
                help="settings (default: $POSTURE_CONFIG, ./posture.yaml, ./demo/posture.yaml)",
            )
            subparser.add_argument(
                "--lake",
                metavar="DIR",
                help="the lake, instead of the one in the settings; with settings of its own",
            )
        return subparser

    demo = add(
        "demo",
        commands.demo,
        "Simulate an organization for two weeks, score every day, show it.",
        settings=False,
    )
    demo.add_argument("--days", type=_number(1, 366), default=14, help="days (default: 14)")
    demo.add_argument(
        "--accounts", type=_number(5, 10_000), default=24, help="accounts (default: 24)"
    )
    demo.add_argument("--seed", type=_number(0, 2**31), default=7, help="which organization")
    demo.add_argument(
        "--lake", default=DEMO_LAKE, metavar="DIR", help="folder or s3://... (default: ./demo)"
    )

    simulate = add(
        "simulate",
        commands.simulate,
        "Run the simulated organization alone, for any AWS client, until Ctrl-C.",
        settings=False,
    )
    simulate.add_argument("--port", type=_number(0, 65_535), default=4599, help="default: 4599")
    simulate.add_argument("--accounts", type=_number(5, 10_000), default=24, help="default: 24")
    simulate.add_argument(
        "--resources",
        type=_number(5, 100_000),
        default=40,
        help="resources an account (default: 40)",
    )
    simulate.add_argument("--seed", type=_number(0, 2**31), default=7, help="which organization")
    simulate.add_argument(
        "--now",
        type=_moment,
        metavar="TIME",
        help="its clock, such as 2026-11-23T06:00:00Z (default: real time)",
    )
    simulate.add_argument(
        "--no-rate-limit",
        action="store_true",
        help="do not refuse more than 3 GetFindings a second, and 10 of other calls",
    )
    simulate.add_argument(
        "--realistic",
        action="store_true",
        help="also what real organizations send, such as stale findings and an Azure subscription",
    )
    simulate.add_argument(
        "--per-standard",
        action="store_true",
        help="findings per standard instead of consolidated ones",
    )

    run = add("run", commands.run, "Collect, score and publish one day (today).")
    run.add_argument("--date", type=_day, metavar="D", help="day, YYYY-MM-DD (default: today, UTC)")

    replay = add(
        "replay",
        _lazily("replay", "replay"),
        "Compute stored days again after a rule or the settings changed, without AWS.",
    )
    replay.add_argument(
        "--from",
        dest="from_",
        type=_day,
        metavar="D1",
        help="first day (default: the oldest stored one)",
    )
    replay.add_argument(
        "--to", type=_day, metavar="D2", help="last day (default: the newest stored one)"
    )
    replay.add_argument(
        "--report",
        nargs="+",
        metavar="R",
        help="print the changes of these reports only; all are computed",
    )
    replay.add_argument(
        "--queue",
        action="store_true",
        help="by runs that the daemon of DAGSTER_HOME starts, on as many machines as it has",
    )
    replay.add_argument(
        "--days-per-run",
        type=_number(1, 3660),
        default=30,
        metavar="N",
        help="with --queue: days of one run, at most (default: 30)",
    )

    import_ = add(
        "import",
        _lazily("imports", "import_findings"),
        "Make saved findings a day's snapshot and score it, without AWS access.",
    )
    import_.add_argument(
        "paths",
        type=Path,
        nargs="+",
        metavar="PATH",
        help="file or folder: JSON of findings in any wrapper, a line each, or logs of it; plain, "
        "compressed, zip or tar",
    )
    days = import_.add_mutually_exclusive_group(required=True)
    days.add_argument("--date", type=_day, metavar="D", help="the day of all of it, YYYY-MM-DD")
    days.add_argument(
        "--each-day",
        action="store_true",
        help="several days: each file is of the day that its path names, or else of the day on "
        "which its newest finding was updated",
    )
    import_.add_argument(
        "--replace",
        action="store_true",
        help="replace a day that was collected from AWS, or that has far more findings",
    )

    restore = add(
        "restore",
        _lazily("imports", "restore"),
        "Make a day what it was before an import replaced it.",
    )
    restore.add_argument("--date", type=_day, metavar="D", required=True, help="day, YYYY-MM-DD")

    scores = add("scores", commands.scores, "Show the scores of a day.")
    scores.add_argument("--date", type=_day, metavar="D", help="day (default: the newest)")
    scores.add_argument("--report", metavar="R", help="one report (default: all)")
    scores.add_argument(
        "--method", metavar="M", help="as this version of the method made them (default: the last)"
    )
    scores.add_argument(
        "--scope", choices=("account", "workload", "organization"), default="workload"
    )
    _add_format(scores)

    controls = add("controls", commands.controls, "Show the controls of an account or workload.")
    controls.add_argument("--report", metavar="R", required=True)
    controls.add_argument("--account", metavar="ID", help="an account id")
    controls.add_argument("--workload", metavar="W", help="a workload, with --environment")
    controls.add_argument("--environment", metavar="E")
    controls.add_argument("--date", type=_day, metavar="D", help="day (default: the newest)")
    _add_format(controls)

    explain = add(
        "explain",
        _lazily("explain", "explain"),
        "Show why a score changed between two days, and judge a claim.",
    )
    explain.add_argument("--report", metavar="R", required=True)
    explain.add_argument("--workload", metavar="W", help="a workload, with --environment")
    explain.add_argument("--environment", metavar="E")
    explain.add_argument("--account", metavar="ID", help="an account id")
    explain.add_argument("--organization", action="store_true", help="the whole organization")
    explain.add_argument(
        "--from",
        dest="from_",
        type=_day,
        metavar="D1",
        help="earlier day (default: the newest stored day before the later one)",
    )
    explain.add_argument("--to", type=_day, metavar="D2", help="later day (default: the newest)")
    explain.add_argument(
        "--claim",
        nargs="+",
        metavar="CONTROL",
        help='judge "it is only lower because of CONTROL ..."',
    )
    explain.add_argument(
        "--format",
        choices=("text", "json", "markdown"),
        default="text",
        help="text and markdown for people; json with everything",
    )

    backlog = add(
        "backlog",
        _lazily("backlog", "backlog"),
        "Show the shortest path to a target score: what to fix.",
    )
    backlog.add_argument("--report", metavar="R", required=True)
    backlog.add_argument("--workload", metavar="W", help="a workload, with --environment")
    backlog.add_argument("--environment", metavar="E")
    backlog.add_argument("--account", metavar="ID", help="an account id")
    backlog.add_argument(
        "--target",
        type=_score,
        default=95.0,
        metavar="SCORE",
        help="the score to reach, 0 to 100 (default: 95)",
    )
    backlog.add_argument("--date", type=_day, metavar="D", help="day (default: the newest)")
    _add_format(backlog)

    exceptions = add(
        "exceptions",
        _lazily("exceptions", "exceptions"),
        "Show what is suppressed, by whom and until when, and the points it is worth.",
    )
    exceptions.add_argument("--report", metavar="R", help="one report (default: all)")
    exceptions.add_argument("--workload", metavar="W", help="a workload, with --environment")
    exceptions.add_argument("--environment", metavar="E")
    exceptions.add_argument("--account", metavar="ID", help="an account id")
    exceptions.add_argument("--date", type=_day, metavar="D", help="day (default: the newest)")
    exceptions.add_argument("--all", action="store_true", help="also those that ended on the day")
    _add_format(exceptions)

    remediation = add(
        "remediation",
        _lazily("remediation", "remediation"),
        "Show how long failures last, which are open longest, and what keeps coming back.",
    )
    remediation.add_argument("--report", metavar="R", required=True)
    remediation.add_argument("--workload", metavar="W", help="a workload, with --environment")
    remediation.add_argument("--environment", metavar="E")
    remediation.add_argument("--account", metavar="ID", help="an account id")
    remediation.add_argument("--date", type=_day, metavar="D", help="day (default: the newest)")
    _add_format(remediation)

    dashboards = add(
        "dashboards",
        _lazily("dashboards", "dashboards"),
        "Show CloudWatch dashboards and alarms, put them, or a template.",
    )
    dashboards.add_argument(
        "--format",
        choices=("text", "json", "cloudformation"),
        default="text",
        help="names; bodies and alarms; or a CloudFormation template of both (default: text)",
    )
    dashboards.add_argument(
        "--put",
        action="store_true",
        help="put what the settings enable, and remove ours of workloads that are gone",
    )
    dashboards.add_argument(
        "--workload", metavar="W", action="append", help="of this workload only; may be repeated"
    )
    dashboards.add_argument(
        "--organization", action="store_true", help="of the organization only, or as well"
    )
    dashboards.add_argument("--date", type=_day, metavar="D", help="day (default: the newest)")

    alerts = add(
        "alerts",
        _lazily("alerts", "alerts"),
        "Show whom a day's alerts would tell what, tell them, or try a channel.",
    )
    alerts.add_argument("--date", type=_day, metavar="D", help="day (default: the newest)")
    what = alerts.add_mutually_exclusive_group()
    what.add_argument(
        "--send", action="store_true", help="send what nobody was told of yet (newest day)"
    )
    what.add_argument(
        "--test", action="store_true", help="send a trial message to every topic and webhook"
    )
    alerts.add_argument(
        "--format", choices=("text", "json"), default="text", help="json as the channels take it"
    )

    reconcile = add(
        "reconcile",
        _lazily("reconcile", "reconcile"),
        "Show our scores beside the figures AWS itself shows, and why they differ.",
    )
    reconcile.add_argument("--report", metavar="R", help="one report (default: all)")
    reconcile.add_argument("--account", metavar="ID", help="an account id (default: all there are)")
    reconcile.add_argument("--date", type=_day, metavar="D", help="day (default: the newest)")
    _add_format(reconcile)

    plan = add(
        "plan",
        _lazily("plan", "plan"),
        "Tell what the next run takes: pages, time at the rate limit, disk.",
    )
    plan.add_argument(
        "--format", choices=("text", "json"), default="text", help="json has every region and table"
    )

    report = add(
        "report",
        _lazily("report", "report"),
        "Write the report pages of the newest day into the lake.",
    )
    report.add_argument("--open", action="store_true", help="open them in the browser")

    access = add(
        "access",
        _lazily("access", "access"),
        "Print the least IAM policy for the team of a workload.",
    )
    access.add_argument("--workload", metavar="W", required=True)
    access.add_argument(
        "--bucket",
        metavar="URI",
        help="where the lake is or will be, s3://bucket/prefix (default: the lake of the settings)",
    )
    access.add_argument(
        "--kms-key",
        metavar="ARN",
        help="the KMS key of the bucket (default: s3.kms_key_arn of the settings)",
    )
    access.add_argument(
        "--split",
        action="store_true",
        help="print a list of policies, as many as many accounts need",
    )

    export = add(
        "export", _lazily("access", "export"), "Write the data of a workload's team alone."
    )
    export.add_argument("--workload", metavar="W", required=True)
    export.add_argument(
        "--format",
        choices=("parquet", "csv", "html"),
        default="parquet",
        help="a file for each table, csv safe to open in a spreadsheet; or the report page",
    )
    export.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="a folder (default: where the team may read it in the lake)",
    )
    export.add_argument(
        "--from",
        dest="from_",
        type=_day,
        metavar="D1",
        help="first day of the history (default: the oldest)",
    )
    export.add_argument("--to", type=_day, metavar="D2", help="last day (default: the newest)")

    athena = add(
        "athena-ddl",
        _lazily("athena", "athena_ddl"),
        "Print definitions of the lake's tables for Amazon Athena.",
    )
    athena.add_argument(
        "--database",
        default="security_posture",
        metavar="NAME",
        help="Athena's database (default: security_posture)",
    )
    athena.add_argument(
        "--manifests",
        action="store_true",
        help="also write what the tables read, for every stored day; each run does it for its own",
    )
    athena.add_argument(
        "--format",
        choices=("sql", "json"),
        default="sql",
        help="sql, or a JSON list of statements: Athena's API takes one at a time",
    )

    query = add("query", commands.query, "Ask the catalog in SQL (DuckDB), read-only.")
    query.add_argument("sql", metavar="SQL")
    _add_format(query)

    maintain = add(
        "maintain",
        _lazily("maintenance", "maintain"),
        "Remove findings beyond their retention, and compact the score tables of past months.",
    )
    maintain.add_argument("--dry-run", action="store_true", help="only say what would be done")
    _add_format(maintain)

    doctor = add(
        "doctor",
        _lazily("maintenance", "doctor"),
        "Hold the lake's commits against its files, and say what would mend it.",
    )
    doctor.add_argument("--day", type=_day, metavar="D", help="this day only")
    doctor.add_argument(
        "--from", dest="from_", type=_day, metavar="D1", help="first day (default: the oldest)"
    )
    doctor.add_argument("--to", type=_day, metavar="D2", help="last day (default: the newest)")
    doctor.add_argument("--fast", action="store_true", help="read no hashes, only sizes and rows")
    doctor.add_argument(
        "--repair",
        action="store_true",
        help="delete what killed runs left behind, and build the catalog anew if it is wrong",
    )
    _add_format(doctor)

    init = add("init", commands.init, "Write a commented posture.yaml.", settings=False)
    init.add_argument("--config", type=Path, default=Path("posture.yaml"), metavar="FILE")
    init.add_argument("--force", action="store_true", help="replace an existing file")

    add("check", commands.check, "Validate the settings, try every permission, find the reports.")

    up = add("up", commands.up, "Start the Dagster UI on the lake and its history, until Ctrl-C.")
    up.add_argument("--port", type=_number(1, 65_535), default=3000, help="default: 3000")
    up.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1, this machine only")
    return parser


def _lazily(module: str, function: str) -> Command:
    """The command of a module of ours that is loaded when the command is called."""

    def command(arguments: argparse.Namespace) -> int:
        called: Command = getattr(import_module(f"posture_pipeline.commands.{module}"), function)
        return called(arguments)

    return command


def _add_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--format",
        choices=("table", "json", "csv"),
        default="table",
        help="table for people; json and csv carry every column",
    )


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        message = f"{text!r} is no day; write it as 2026-11-23"
        raise argparse.ArgumentTypeError(message) from error


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        message = f"{text!r} is no time; write it as 2026-11-23T06:00:00Z"
        raise argparse.ArgumentTypeError(message) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _score(text: str) -> float:
    with suppress(ValueError):
        # Also false for nan, which float() takes.
        if 0 <= (score := float(text)) <= 100:
            return score
    message = f"{text!r} is no score from 0 to 100"
    raise argparse.ArgumentTypeError(message)


def _number(low: int, high: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        with suppress(ValueError):
            if low <= int(text) <= high:
                return int(text)
        message = f"{text!r} is no whole number from {low} to {high}"
        raise argparse.ArgumentTypeError(message)

    return number


if __name__ == "__main__":
    raise SystemExit(main())
