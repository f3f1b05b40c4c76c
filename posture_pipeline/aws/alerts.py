"""Sending alerts: to SNS topics, and to webhooks as Slack takes them.

What is sent, and to whom, is decided elsewhere. The address of a webhook is a secret: it stands in
an environment variable or a file, and never in a log, an error or the lake.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from posture_pipeline.aws.clients import AwsClients, aws_call
from posture_pipeline.errors import PostureError, SettingsError
from posture_pipeline.model.alerts import Message, plain_text, slack_payload, subject

if TYPE_CHECKING:
    from posture_pipeline.settings import Aws

ACTION = "sns:Publish"
ATTEMPTS = 3
"""Tries of one message. What fails is noted and tried again later, so few are enough."""
TIMEOUT_SECONDS = 5.0
LONGEST_WAIT_SECONDS = 5.0
"""Before another try; a sensor of Dagster has 60 seconds in all."""
_FIRST_WAIT_SECONDS = 1.0
_ANSWER_SHOWN = 100


class WebhookError(PostureError):
    """A webhook did not take a message; the text names the target and not its address."""


class Sender:
    """Sends messages to topics and webhooks."""

    def __init__(
        self, clients: AwsClients | None, *, pause: Callable[[float], None] = time.sleep
    ) -> None:
        """Asks nothing.

        Args:
            clients: How SNS is reached; null where there is no AWS.
            pause: Waits so many seconds.
        """
        self._clients = clients
        self._pause = pause

    def __call__(self, target: str, message: Message) -> str:
        """Sends a message.

        Args:
            target: As in the settings: the ARN of a topic, `env:NAME` or `file:PATH`.
            message: What to send.

        Returns:
            What the channel answered: the id of a message, or a status.

        Raises:
            SettingsError: The address of the webhook is not there, or is none.
            WebhookError: The webhook did not take it.
            AwsError: SNS did not take it.
        """
        kind, _, rest = target.partition(":")
        if kind == "arn":
            return self._publish(target, message)
        return self._post(target, _address(target, kind, rest), message)

    def _publish(self, topic: str, message: Message) -> str:
        if self._clients is None:
            text = f"{topic}: the simulated organization has no topics outside its runs."
            raise SettingsError(text)
        region = topic.split(":")[3]
        with aws_call(ACTION, place=topic, aws=self._clients.aws):
            reply = self._clients.sns(region).publish(
                TopicArn=topic, Subject=subject(message), Message=plain_text(message)
            )
        return str(reply["MessageId"])

    def _post(self, target: str, address: str, message: Message) -> str:
        body = json.dumps(slack_payload(message)).encode()
        said = ""
        for attempt in range(ATTEMPTS):
            status, said, wait = _posted(address, body)
            if status is not None and 200 <= status < 300:
                return said
            if status is not None and status != 429 and status < 500:
                break
            if attempt + 1 < ATTEMPTS:
                self._pause(min(wait or _FIRST_WAIT_SECONDS * 2**attempt, LONGEST_WAIT_SECONDS))
        text = (
            f"The webhook {target} did not take the message: {said}. Check its address, and that "
            "the channel still exists; posture alerts --test tries it."
        )
        raise WebhookError(text)


def sender(aws: Aws | None, *, endpoint_url: str | None = None) -> Sender:
    """A sender that gives up soon.

    Args:
        aws: How AWS is reached; null where there is none.
        endpoint_url: Instead of the one of the settings.
    """
    if aws is None:
        return Sender(None)
    clients = AwsClients(
        aws,
        endpoint_url=endpoint_url,
        attempts=ATTEMPTS,
        read_timeout=TIMEOUT_SECONDS,
        connect_timeout=TIMEOUT_SECONDS,
    )
    return Sender(clients)


def _address(target: str, kind: str, rest: str) -> str:
    """The address of a webhook.

    Raises:
        SettingsError: There is none, or it is none.
    """
    if kind == "env":
        address = os.environ.get(rest, "")
        missing = f"the environment variable {rest} is not set"
    else:
        missing = f"the file {rest} cannot be read, or is empty"
        try:
            address = Path(rest).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            address = ""
    address = address.strip()
    if not address:
        message = f"alerts names {target}, but {missing}; put the address of the webhook there."
        raise SettingsError(message)
    try:
        parts = urlsplit(address)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not (address.isascii() and address.isprintable() and " " not in address):
        message = f"alerts names {target}, and what stands there is no address (https://...)."
        raise SettingsError(message)
    return address


def _posted(address: str, body: bytes) -> tuple[int | None, str, float | None]:
    """The status of one try (null: no answer), what was said, and how long to wait.

    Through the proxy of the environment; redirects are not followed, since they would hand the
    message to somebody else.
    """
    from botocore.awsrequest import AWSRequest
    from botocore.exceptions import BotoCoreError
    from botocore.httpsession import URLLib3Session
    from botocore.utils import get_environ_proxies

    # The stubs know fewer forms of these arguments than botocore takes.
    session = cast("Any", URLLib3Session)(
        verify=os.environ.get("AWS_CA_BUNDLE") or True,
        proxies=get_environ_proxies(address),
        timeout=(TIMEOUT_SECONDS, TIMEOUT_SECONDS),
    )
    request = AWSRequest("POST", address, {"Content-Type": "application/json"}, body)
    try:
        reply = session.send(request.prepare())
        answer = reply.content[:_ANSWER_SHOWN].decode("utf-8", "replace").strip()
    except (BotoCoreError, ValueError, OSError) as error:
        # The text of such an error holds the address.
        return None, f"no answer ({type(error).__name__})", None
    finally:
        session.close()
    asked = reply.headers.get("Retry-After", "")
    wait = float(asked) if asked.isdecimal() else None
    # Slack answers with a word, such as channel_not_found; a page may repeat the address.
    word = f", {answer}" if re.fullmatch("[a-z_]+", answer) else ""
    return reply.status_code, f"status {reply.status_code}{word}", wait
