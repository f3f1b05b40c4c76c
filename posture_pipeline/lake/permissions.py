"""What a lake in a bucket needs to be allowed. Which calls are made is decided in `store.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import MappingProxyType

from posture_pipeline.errors import PermissionMissingError
from posture_pipeline.lake.store import Lake

PROBE = "_check"
"""An object that is asked for and never there."""

S3_ACTIONS = MappingProxyType(
    {
        "s3:AbortMultipartUpload": "giving up a large file that could not be written whole",
        "s3:DeleteObject": "removing replaced runs and days beyond their retention",
        "s3:GetObject": "reading",
        "s3:ListBucket": "finding days and runs, and telling a missing file from a denied one",
        "s3:PutObject": "writing, large files in parts",
    }
)
"""IAM actions of a lake in S3, with what each is for.

Source: Amazon S3 user guide, required permissions for Amazon S3 API operations.
"""

KMS_ACTIONS = MappingProxyType(
    {
        "kms:Decrypt": "reading, and writing large files in parts",
        "kms:GenerateDataKey": "writing",
    }
)
"""IAM actions on the key of a bucket that is encrypted with one of KMS (SSE-KMS)."""


def tried(lake: Lake) -> Iterator[tuple[str, PermissionMissingError | None]]:
    """Tries what a lake in a bucket needs: each action, with what was missing or null.

    Nothing is written: the write is on the condition that an object has a content that it has not.
    Deleting cannot be tried so.

    Raises:
        LakeError: There is no such bucket, or S3 fails.
        CredentialsError: There are none, or they are refused.
    """
    calls: dict[str, Callable[[], object]] = {
        "s3:ListBucket": lambda: lake.names(PROBE),
        "s3:GetObject": lambda: lake.get(PROBE),
        "s3:PutObject": lambda: lake.put_if(PROBE, b"{}", '"no version"'),
    }
    for action, call in calls.items():
        try:
            call()
        except PermissionMissingError as error:
            yield action, error
        else:
            yield action, None
