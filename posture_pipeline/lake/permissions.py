"""What a lake in a bucket needs to be allowed. Which calls are made is decided in `store.py`."""

from __future__ import annotations

from types import MappingProxyType

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
