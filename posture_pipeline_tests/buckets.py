"""Lakes in buckets of the simulated organization, for tests; the S3 there speaks real HTTP."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from posture_pipeline.aws.clients import AwsClients
from posture_pipeline.lake.bucket import Bucket, Credentials
from posture_pipeline.lake.store import Lake
from posture_pipeline.settings import Aws
from posture_pipeline.simulation.server import SimulationServer

BUCKET = "posture-lake"
REGION = "eu-west-1"


def make_bucket(server: SimulationServer) -> None:
    """Makes the bucket, as whoever deploys the pipeline would; servers of a process share it."""
    s3 = AwsClients(Aws(region=REGION, endpoint_url=server.url)).s3()
    if BUCKET not in [each["Name"] for each in s3.list_buckets()["Buckets"]]:
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})


def bucket_lake(server: SimulationServer, prefix: str, **options: Any) -> Lake:
    """A lake in the bucket; `options` are those of `Bucket`. It gives up after one retry."""
    reached = {
        "region": REGION,
        "endpoint_url": server.url,
        "credentials": lambda: Credentials("simulated", "simulated"),
        "retries": 1,
        **options,
    }
    return Lake(f"s3://{BUCKET}/{prefix}", Bucket(**reached))


def upload(folder: Path, lake: Lake) -> None:
    """Copies the files of a lake in a folder, its catalog aside."""
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    kept = [name for name in names if not name.startswith(".") and not name.endswith(".duckdb")]
    lake.at_once(lambda name: lake.put(name, (folder / name).read_bytes()), kept)


def requests(server: SimulationServer, operation: str | None = None) -> list[dict[str, Any]]:
    """The requests to S3 since the log of calls was last emptied."""
    return [each for each in server.calls(operation) if each["service"] == "s3"]


def counted(server: SimulationServer) -> Counter[str]:
    """How many requests to S3 there were, by operation."""
    return Counter(each["operation"] for each in requests(server))
