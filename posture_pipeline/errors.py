"""The errors that reach a person: few, named for what the reader can do about them.

Raise one of these where the cause is outside the program (settings, input, permissions, AWS); its
text names the thing, the place and the fix, and the command line prints it as it is, without a
traceback. Programming errors do not belong here.
"""

from __future__ import annotations


class PostureError(Exception):
    """Base of every error whose text is written for the person who runs the pipeline."""


class SettingsError(PostureError):
    """The settings are wrong; the text names the key, the value and what is allowed."""


class InputError(PostureError):
    """A file or an argument that was given cannot be used; the text names it and the fix."""


class LakeError(PostureError):
    """The lake does not hold what was asked for, or not in a form that can be read."""


class DamagedError(LakeError):
    """A file of the lake is not as it was committed; the text names it and the repair."""


class SchemaError(PostureError):
    """Rows do not fit the table that they are written to; the text names table and column."""


class AwsError(PostureError):
    """AWS refused or failed a call for good; the text names the call and what to do."""


class PermissionMissingError(AwsError):
    """The credentials lack a permission; the text names the IAM action."""


class CredentialsError(AwsError):
    """There are no credentials, or they have expired."""


class CollectionError(AwsError):
    """The findings could not be collected completely; nothing was committed."""


class DayIsOverError(PostureError):
    """The day asked for is over (or not begun): Security Hub only knows the present."""
