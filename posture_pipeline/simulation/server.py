"""The simulated organization behind HTTP: in this process for tests, or in the foreground.

Only on 127.0.0.1. This is the one module that loads the web server and the simulator of the other
services, both inside functions.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from typing import TYPE_CHECKING, Any

from posture_pipeline.simulation.application import CLOSE_AFTERWARDS, SimulationApplication
from posture_pipeline.simulation.faults import Fault
from posture_pipeline.simulation.settings import SimulationSettings, SimulationSettingsError

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from werkzeug.serving import BaseWSGIServer

    from posture_pipeline.simulation.movement import MovingFindings
    from posture_pipeline.simulation.organization import SimulatedOrganization
    from posture_pipeline.simulation.settings import Movement, RateLimit

logger = logging.getLogger(__name__)

IDLE_SECONDS = 65
"""A connection without requests is closed after so long."""
HOST = "127.0.0.1"
"""Loopback only: nothing checks who asks."""
_RUNNING: list[BaseWSGIServer] = []
_RUNNING_LOCK = threading.Lock()


class SimulationServer:
    """A running endpoint and the means to change what it plays."""

    def __init__(self, application: SimulationApplication, server: BaseWSGIServer) -> None:
        self.application = application
        self._server = server

    @property
    def url(self) -> str:
        """The endpoint, for `endpoint_url`."""
        return f"http://{HOST}:{self._server.server_port}"

    @property
    def organization(self) -> SimulatedOrganization:
        """The model behind the endpoint."""
        return self.application.organization

    def now(self) -> dt.datetime:
        """Return the simulated time (UTC)."""
        return self.application.clock.now()

    def set_clock(self, moment: dt.datetime) -> None:
        """Let it be `moment` now; time goes on from there."""
        self.application.clock.set(moment)

    def set_rate_limit(self, limit: RateLimit | None) -> None:
        """Change the rate limit of GetFindings; None switches every limit of Security Hub off."""
        self.application.security_hub.set_rate_limit(limit)

    def set_movement(self, movement: Movement | None) -> MovingFindings | None:
        """Let findings change while they are paged, from the organization's own on; None: no more.

        Returns:
            The findings that change.
        """
        return self.application.security_hub.set_movement(movement)

    def inject(self, faults: Iterable[Fault | Mapping[str, Any]]) -> None:
        """Add faults to those in force.

        Raises:
            SimulationSettingsError: one of them has a member or value that no fault can have.
        """
        self.application.faults.add(
            [f if isinstance(f, Fault) else Fault.from_mapping(f) for f in faults]
        )

    def clear_faults(self) -> None:
        """Take back every fault."""
        self.application.faults.clear()

    def calls(self, operation: str | None = None) -> list[dict[str, Any]]:
        """Return the log of calls, oldest first: all of them, or those of one operation."""
        calls = self.application.calls()
        return [c for c in calls if operation in (None, c["operation"])]

    def clear(self) -> None:
        """Forget faults, calls, imported findings and used-up rate; the clock stays."""
        self.application.faults.clear()
        self.application.clear_calls()
        self.application.security_hub.clear()


def _make_server(application: SimulationApplication, port: int) -> BaseWSGIServer:
    from moto.moto_server.werkzeug_app import MotoRequestHandler
    from werkzeug.serving import make_server

    class Handler(MotoRequestHandler):
        """Keeps connections open between requests, as AWS does; the stock handler closes them."""

        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        timeout = IDLE_SECONDS

        def log_error(self, *_: object) -> None:
            """Says nothing of connections that a client left open until they idled out."""

        def run_wsgi(self) -> None:
            self.environ = environ = self.make_environ()
            started: list[tuple[str, list[tuple[str, str]]]] = []
            body_parts: list[bytes] = []

            def start_response(
                status: str, headers: list[tuple[str, str]], _exc_info: object = None, /
            ) -> Callable[[bytes], object]:
                started.append((status, headers))
                return body_parts.append

            try:
                # The application reads every request to its end, so the next one begins clean.
                body_parts += application(environ, start_response)
                body = b"".join(body_parts)
            except ConnectionAbortedError:
                self.close_connection = True
                return
            except Exception:
                logger.exception("The simulated endpoint failed on %s", self.path)
                started = [("500 Internal Server Error", [("Content-Length", "0")])]
                body = b""
            status, headers = started[-1]
            code, _, reason = status.partition(" ")
            self.send_response_only(int(code), reason)
            for name, value in headers:
                self.send_header(name, value)
            if environ.get(CLOSE_AFTERWARDS):
                self.send_header("Connection", "close")
            self.end_headers()
            if environ["REQUEST_METHOD"] != "HEAD":
                self.wfile.write(body)

    try:
        return make_server(HOST, port, application, threaded=True, request_handler=Handler)
    except (OSError, OverflowError, SystemExit) as error:
        msg = f"port {port} of {HOST} cannot be used ({error}); choose another, or 0 for any"
        raise SimulationSettingsError(msg) from error


def _application(settings: SimulationSettings) -> SimulationApplication:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    return SimulationApplication(settings, DomainDispatcherApplication(create_backend_app))


@contextlib.contextmanager
def serve(settings: SimulationSettings | None = None, port: int = 0) -> Iterator[SimulationServer]:
    """Run the endpoint in a thread of this process for as long as the context lasts.

    Endpoints of one process at the same time share what they keep of metrics, dashboards, buckets
    and the like; it is gone when the last of them stops.

    Args:
        settings: of the organization; the defaults if None.
        port: 0 takes any free one.

    Raises:
        SimulationSettingsError: the port cannot be used.
    """
    server = _make_server(_application(settings or SimulationSettings()), port)
    application = server.app
    assert isinstance(application, SimulationApplication)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    with _RUNNING_LOCK:
        _RUNNING.append(server)
    try:
        yield SimulationServer(application, server)
    finally:
        server.shutdown()
        thread.join(timeout=10)
        server.server_close()
        with _RUNNING_LOCK:
            _RUNNING.remove(server)
            if not _RUNNING:
                _forget_everything()


def _forget_everything() -> None:
    """Empties moto, whose state belongs to the process, not to a server."""
    from moto.backends import get_backend

    get_backend("moto_api")["global"].reset()


def run_forever(
    settings: SimulationSettings | None = None,
    port: int = 0,
    *,
    now: dt.datetime | None = None,
    echo: Callable[[str], None] = print,
) -> None:
    """Run the endpoint in the foreground until Ctrl-C or SIGTERM, and say how to reach it.

    Args:
        settings: of the organization; the defaults if None.
        port: 0 takes any free one.
        now: the time to begin with; real time if None.
        echo: what writes the lines for the person.

    Raises:
        SimulationSettingsError: the port cannot be used.
    """
    stop = threading.Event()
    previous = {
        number: signal.signal(number, lambda *_: stop.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        with serve(settings, port) as server:
            if now is not None:
                server.set_clock(now)
            for line in instructions(server):
                echo(line)
            stop.wait()
            echo("Stopped.")
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def instructions(server: SimulationServer) -> list[str]:
    """Return the lines that tell a person how to use a running endpoint."""
    settings = server.organization.settings
    command = f"aws --endpoint-url {server.url} --region {settings.home_region}"
    failing = '{"ComplianceStatus": [{"Value": "FAILED", "Comparison": "EQUALS"}]}'
    return [
        f"Simulated organization of {settings.accounts} accounts at {server.url}",
        f"It is {server.now():%Y-%m-%d %H:%M} UTC there. Any credentials will do:",
        "",
        "  export AWS_ACCESS_KEY_ID=simulated AWS_SECRET_ACCESS_KEY=simulated",
        f"  {command} organizations list-accounts",
        f"  {command} securityhub get-findings --max-items 5 --filters '{failing}'",
        f"  {command} cloudwatch list-metrics",
        f"  curl -X POST {server.url}/_sim/clock -d "
        f'\'{{"now": "{server.now():%Y-%m-%d}T06:00:00Z"}}\'',
        "",
        "Ctrl-C stops it.",
    ]
