"""Whether the unified Security Hub is enabled beside Security Hub CSPM, and since when.

What follows from it for a control belongs in `model.causes`.
"""

from __future__ import annotations

from datetime import UTC, date, datetime

from posture_pipeline.aws.clients import AwsClients, aws_call
from posture_pipeline.errors import AwsError, CredentialsError

ACTION = "securityhub:DescribeSecurityHubV2"


def unified_hub_since(clients: AwsClients) -> date | None:
    """The day (UTC) on which the calling account enabled the unified Security Hub.

    A run does without the answer: where the hub is not enabled, the role may not ask, or AWS does
    not answer, nothing is known of it.

    Returns:
        The day; None if it is not enabled or not known.

    Raises:
        CredentialsError: There are none, or they expired.
    """
    try:
        with aws_call(ACTION, place=clients.region, aws=clients.aws):
            reply = clients.security_hub().describe_security_hub_v2()
    except CredentialsError:
        raise
    except AwsError:
        return None
    try:
        return datetime.fromisoformat(reply["SubscribedAt"]).astimezone(UTC).date()
    except (KeyError, TypeError, ValueError):
        return None
