"""ARNs of other partitions than `aws`: an organization in China, GovCloud or the sovereign cloud.

The services know the partition `aws` alone; what they are asked and what they answer is translated
here, on the way in and out, so that no service and no record has to know of it.
"""

from __future__ import annotations

from typing import Any

_ARN, _PARTITION = "arn:aws:", '"Partition":"aws"'


class Translation:
    """From the partition of a region to `aws`, and back."""

    def __init__(self, region: str) -> None:
        import botocore.session

        name = botocore.session.get_session().get_partition_for_region(region)
        self._arn = f"arn:{name}:"
        self._needed = name != "aws"
        self._replies = [
            (_ARN.encode(), self._arn.encode()),
            (_PARTITION.encode(), f'"Partition":"{name}"'.encode()),
        ]

    def of_request(self, value: Any) -> Any:  # noqa: ANN401 - any JSON
        """Return parameters as the services know them."""
        if not self._needed:
            return value
        if isinstance(value, str):
            # An ARN of another partition means nothing here, and must not pass for a valid one.
            return value.replace(_ARN, "arn:no-such:").replace(self._arn, _ARN)
        if isinstance(value, list):
            return [self.of_request(each) for each in value]
        if isinstance(value, dict):
            return {name: self.of_request(each) for name, each in value.items()}
        return value

    def of_reply(self, body: bytes) -> bytes:
        """Return a reply as a client in the partition gets it."""
        if self._needed:
            for old, new in self._replies:
                body = body.replace(old, new)
        return body
