"""Errors as AWS services answer them: code, status, message. How they are sent is not here."""

from __future__ import annotations


class ServiceError(Exception):
    """A refusal in AWS's words.

    Args:
        code: the error's name, such as `InvalidInputException`.
        message: what AWS says with it.
        status: of HTTP.
    """

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


def invalid_input(message: str) -> ServiceError:
    """Return Security Hub's answer to a request it does not accept."""
    return ServiceError("InvalidInputException", message)


def not_simulated(service: str, operation: str) -> ServiceError:
    """Return the answer to an operation that exists in AWS and not here."""
    return ServiceError(
        "NotSimulatedException", f"{service}:{operation} is not simulated by this endpoint", 501
    )
