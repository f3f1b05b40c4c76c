"""Requests to S3 told apart, for faults and the log of calls. They are answered by the simulator.

Conditional writes, encryption and listings are the simulator's own; nothing is checked here.
"""

from __future__ import annotations

import urllib.parse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_ENCRYPTION = "HTTP_X_AMZ_SERVER_SIDE_ENCRYPTION"

_OBJECT = {
    "GET": "GetObject",
    "HEAD": "HeadObject",
    "PUT": "PutObject",
    "DELETE": "DeleteObject",
}
_BUCKET = {
    "GET": "ListObjectsV2",
    "HEAD": "HeadBucket",
    "PUT": "CreateBucket",
    "POST": "DeleteObjects",
    "DELETE": "DeleteBucket",
}
_PARTS = {
    "POST": "CompleteMultipartUpload",
    "PUT": "UploadPart",
    "DELETE": "AbortMultipartUpload",
}


def operation(environ: WSGIEnvironment) -> str:
    """Return the operation of a request in path style, by its name in the service's model.

    Of the operations that a query string tells apart only those of uploads in parts are known.
    """
    method = str(environ["REQUEST_METHOD"])
    bucket, key = _place(environ)
    if not bucket:
        return "ListBuckets"
    if not key:
        return _BUCKET.get(method, method)
    query = urllib.parse.parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
    if "uploads" in query:
        return "CreateMultipartUpload"
    if "uploadId" in query:
        return _PARTS.get(method, method)
    return _OBJECT.get(method, method)


def summary(environ: WSGIEnvironment) -> dict[str, Any]:
    """Return what the log keeps of a request: where, under which key, and under which condition."""
    bucket, key = _place(environ)
    query = urllib.parse.parse_qs(environ.get("QUERY_STRING", ""))
    kept = {
        "bucket": bucket,
        "key": key or None,
        "prefix": query.get("prefix", [None])[0],
        "delimiter": query.get("delimiter", [None])[0],
        "encryption": environ.get(_ENCRYPTION),
        "kms_key": environ.get(f"{_ENCRYPTION}_AWS_KMS_KEY_ID"),
        "if_match": environ.get("HTTP_IF_MATCH"),
        "if_none_match": environ.get("HTTP_IF_NONE_MATCH"),
    }
    return {name: value for name, value in kept.items() if value is not None}


def _place(environ: WSGIEnvironment) -> tuple[str, str]:
    """Return bucket and key."""
    bucket, _, key = environ.get("PATH_INFO", "/").lstrip("/").partition("/")
    return bucket, key
