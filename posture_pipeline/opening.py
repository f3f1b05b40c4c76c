"""Opening the lake that the settings name: where it meets AWS's credentials.

What a lake is stands in `lake/`, how AWS is reached in `aws/`; neither knows of the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from posture_pipeline.lake.store import Lake

if TYPE_CHECKING:
    from posture_pipeline.lake.bucket import Bucket
    from posture_pipeline.settings import Settings


def open_lake(settings: Settings) -> Lake:
    """The lake of the settings; of a bucket nothing is asked yet.

    Raises:
        SettingsError: The profile that the settings name is not there.
        LakeError: The settings name no folder and no bucket.
    """
    return Lake(settings.lake, _bucket(settings) if "://" in settings.lake else None)


def _bucket(settings: Settings) -> Bucket:
    """How the bucket is reached: with boto3's credentials, whatever they come from."""
    from posture_pipeline.aws.clients import AwsClients
    from posture_pipeline.lake.bucket import Bucket, Credentials

    aws, s3 = settings.aws, settings.s3
    clients = AwsClients(
        aws.model_copy(
            update={
                "region": s3.region or aws.region,
                "profile": s3.profile or aws.profile,
                "endpoint_url": s3.endpoint_url or aws.endpoint_url,
                # The role is that of the audit account; the lake is where the pipeline runs.
                "role_arn": None,
            }
        )
    )
    return Bucket(
        region=clients.region,
        endpoint_url=str(clients.s3().meta.endpoint_url),
        credentials=lambda: Credentials(*clients.credentials()),
        kms_key_arn=s3.kms_key_arn,
    )
