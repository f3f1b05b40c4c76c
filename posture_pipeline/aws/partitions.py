"""The partition that a region belongs to, with its DNS suffix: what botocore knows of them.

The only place that tells partitions apart; nothing else of AWS is here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from posture_pipeline.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition of AWS.

    Attributes:
        name: As ARNs have it: aws, aws-cn, aws-us-gov, aws-eusc, aws-iso, ...
        dns_suffix: Of its endpoints, such as amazonaws.com.
    """

    name: str
    dns_suffix: str


@cache
def partition_of(region: str) -> Partition:
    """The partition of a region.

    A region that botocore does not know yet is recognized by its name.

    Raises:
        SettingsError: No partition has regions of such a name.

    Example:
        >>> partition_of("eu-west-1")
        Partition(name='aws', dns_suffix='amazonaws.com')
        >>> partition_of("eusc-de-east-1")
        Partition(name='aws-eusc', dns_suffix='amazonaws.eu')
    """
    from botocore.loaders import Loader

    # What botocore's own endpoint rules read. Session().get_partition_for_region says the same of
    # every region, and reads the endpoints of all services for it: 0.5 s instead of 1 ms.
    known = Loader().load_data("partitions")["partitions"]
    for partition in known:
        if region in partition["regions"] or re.fullmatch(partition["regionRegex"], region):
            return Partition(partition["id"], partition["outputs"]["dnsSuffix"])
    message = (
        f"{region!r} is no AWS region that botocore knows, nor named like one. Correct the region "
        "in the settings; for a new partition install a newer botocore."
    )
    raise SettingsError(message)


@cache
def regions_of_security_hub(partition: str) -> tuple[str, ...]:
    """The regions of a partition that have Security Hub. It reads all endpoints: 0.5 s, once."""
    from botocore.session import Session

    return tuple(Session().get_available_regions("securityhub", partition_name=partition))
