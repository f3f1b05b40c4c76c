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
        place = f" ({error.filename})" if error.filename else ""
        _complain(f"{error.strerror or error}{place}.")
        return 1


def _complain(text: str) -> None:
    print(f"posture: {' '.join(text.split())}", file=sys.stderr)


# --- arguments --------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and where help is."""

    def error(self, message: str) -> NoReturn:
        _complain(f"{message}. See {self.prog} --help.")
        raise SystemExit(2)


def _parser() -> argparse.ArgumentParser:
    from posture_pipeline import cli_commands as commands

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
        "--lake", type=Path, default=Path(DEMO_LAKE), metavar="DIR", help="where (default: ./demo)"
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
        help="do not refuse more than 3 GetFindings a second",
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
        _replay,
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
        help="say only what became of these reports; all are computed",
    )

    import_ = add(
        "import",
        commands.import_findings,
        "Make saved findings a day's snapshot and score it, without AWS access.",
    )
    import_.add_argument(
        "paths",
        type=Path,
        nargs="+",
        metavar="PATH",
        help="file or folder: get-findings output, JSON array, NDJSON, EventBridge events; "
        "plain, .gz or .zst",
    )
    import_.add_argument("--date", type=_day, metavar="D", required=True, help="day, YYYY-MM-DD")

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
        "explain", _explain, "Show why a score changed between two days, and judge a claim."
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

    backlog = add("backlog", _backlog, "Show the shortest path to a target score: what to fix.")
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
        _exceptions,
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
        _remediation,
        "Show how long failures last, which are open longest, and what keeps coming back.",
    )
    remediation.add_argument("--report", metavar="R", required=True)
    remediation.add_argument("--workload", metavar="W", help="a workload, with --environment")
    remediation.add_argument("--environment", metavar="E")
    remediation.add_argument("--account", metavar="ID", help="an account id")
    remediation.add_argument("--date", type=_day, metavar="D", help="day (default: the newest)")
    _add_format(remediation)

    dashboards = add(
        "dashboards", _dashboards, "Show CloudWatch dashboards and alarms, put them, or a template."
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

    reconcile = add(
        "reconcile",
        _reconcile,
        "Show our scores beside the figures AWS itself shows, and why they differ.",
    )
    reconcile.add_argument("--report", metavar="R", help="one report (default: all)")
    reconcile.add_argument("--account", metavar="ID", help="an account id (default: all there are)")
    reconcile.add_argument("--date", type=_day, metavar="D", help="day (default: the newest)")
    _add_format(reconcile)

    report = add("report", _report, "Write the report pages of the newest day into the lake.")
    report.add_argument("--open", action="store_true", help="open them in the browser")

    query = add("query", commands.query, "Ask the catalog in SQL (DuckDB), read-only.")
    query.add_argument("sql", metavar="SQL")
    _add_format(query)

    init = add("init", commands.init, "Write a commented posture.yaml.", settings=False)
    init.add_argument("--config", type=Path, default=Path("posture.yaml"), metavar="FILE")
    init.add_argument("--force", action="store_true", help="replace an existing file")

    add("check", commands.check, "Validate the settings and try every AWS permission of a run.")

    up = add("up", commands.up, "Start the Dagster UI on the lake and its history, until Ctrl-C.")
    up.add_argument("--port", type=_number(1, 65_535), default=3000, help="default: 3000")
    up.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1, this machine only")
    return parser


def _replay(arguments: argparse.Namespace) -> int:
    from posture_pipeline.cli_replay import replay

    return replay(arguments)


def _explain(arguments: argparse.Namespace) -> int:
    from posture_pipeline.cli_explain import explain

    return explain(arguments)


def _backlog(arguments: argparse.Namespace) -> int:
    from posture_pipeline.cli_backlog import backlog

    return backlog(arguments)


def _exceptions(arguments: argparse.Namespace) -> int:
    from posture_pipeline.cli_exceptions import exceptions

    return exceptions(arguments)


def _remediation(arguments: argparse.Namespace) -> int:
    from posture_pipeline.cli_remediation import remediation

    return remediation(arguments)


def _dashboards(arguments: argparse.Namespace) -> int:
    from posture_pipeline.cli_dashboards import dashboards

    return dashboards(arguments)


def _reconcile(arguments: argparse.Namespace) -> int:
    from posture_pipeline.cli_reconcile import reconcile

    return reconcile(arguments)


def _report(arguments: argparse.Namespace) -> int:
    from posture_pipeline.cli_report import report

    return report(arguments)


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
