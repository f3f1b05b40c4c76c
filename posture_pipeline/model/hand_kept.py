"""CSV files that people keep by hand: every refusal names the file, the line and the fix.

Which columns there are, and what a line means, is decided by whoever reads the file.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

from posture_pipeline.errors import SettingsError


@dataclass(frozen=True, slots=True)
class HandKeptFile:
    """A CSV file with a header, separated by commas or semicolons.

    Attributes:
        what: What the file is called in messages, such as `overrides file`.
        path: Its path, for messages.
        columns: The columns that it may have.
    """

    what: str
    path: str
    columns: tuple[str, ...]

    def lines(
        self, text: str, *, missing: Callable[[Sequence[str]], str | None]
    ) -> Iterator[HandKeptLine]:
        """The lines below the header that are not blank.

        Args:
            text: The file's text.
            missing: Says, of the header's columns, which one is missing; null if none is.

        Raises:
            SettingsError: It is no CSV or has no header, a column is unknown, missing or there
                twice, or a line has another number of values.
        """
        text = text.removeprefix("\ufeff")
        header = text.lstrip().partition("\n")[0]
        delimiter = ";" if ";" in header and "," not in header else ","
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        columns: list[str] = []
        try:
            for values in reader:
                if not any(value.strip() for value in values):
                    continue
                if not columns:
                    columns = self._header(values, reader.line_num, missing)
                    continue
                if len(values) != len(columns):
                    problem = f"there are {len(values)} values for {len(columns)} columns"
                    fix = "put a value that contains the separator in quotes"
                    self.refuse(reader.line_num, problem, fix)
                stripped = (value.strip() or None for value in values)
                row = dict(zip(columns, stripped, strict=True))
                yield HandKeptLine(self, reader.line_num, row)
        except csv.Error as error:
            self.refuse(reader.line_num, f"is no CSV: {error}", "check the quotes")
        if not columns:
            self.refuse(1, "there is no header", f"start with {','.join(self.columns)}")

    def refuse(self, line: int, problem: str, fix: str) -> NoReturn:
        """Refuses the file because of one of its lines.

        Raises:
            SettingsError: Always.
        """
        message = f"The {self.what} {self.path} cannot be used: line {line}: {problem}; {fix}."
        raise SettingsError(message)

    def _header(
        self, values: list[str], line: int, missing: Callable[[Sequence[str]], str | None]
    ) -> list[str]:
        columns = [value.strip().lower() for value in values]
        known = ", ".join(self.columns)
        unknown = [column for column in columns if column not in self.columns]
        if unknown:
            self.refuse(line, f"the column {unknown[0]!r} is unknown", f"use {known}")
        if len(set(columns)) < len(columns):
            self.refuse(line, "a column is there twice", f"use each of {known} once")
        if (absent := missing(columns)) is not None:
            self.refuse(line, f"the column {absent} is missing", f"use {known}")
        return columns


@dataclass(frozen=True, slots=True)
class HandKeptLine:
    """A line of the file.

    Attributes:
        file: The file.
        number: The number of the line, from 1.
        values: By column; blank ones are null, and so are those of columns that are not there.
    """

    file: HandKeptFile
    number: int
    values: dict[str, str | None]

    def __getitem__(self, column: str) -> str | None:
        return self.values.get(column)

    def refuse(self, problem: str, fix: str) -> NoReturn:
        """Refuses the file because of this line.

        Raises:
            SettingsError: Always.
        """
        self.file.refuse(self.number, problem, fix)

    def account_id(self, column: str) -> str | None:
        """The account id in a column; also as a spreadsheet marks text: '0123... or ="0123...".

        The id of a subscription of another cloud is one too: it has letters and a hyphen.

        Raises:
            SettingsError: It is no account id; null is none either, and given back.
        """
        value = self[column]
        if value is None:
            return None
        account_id = value.removeprefix("=").strip("\"'").strip()
        if re.fullmatch("[0-9]{12}", account_id):
            return account_id
        if re.fullmatch("[0-9]{1,11}", account_id):
            problem = f"the account id {account_id!r} has {len(account_id)} digits, not 12"
            whole = account_id.zfill(12)
            fix = f"a spreadsheet strips leading zeros: is it {whole}? Format the column as text"
            self.refuse(problem, fix)
        if re.fullmatch(r"[0-9][0-9.,]*[eE]\+?[0-9]+", account_id):
            problem = f"the account id {account_id!r} was rounded by a spreadsheet"
            self.refuse(problem, "format the column as text and enter the 12 digits again")
        subscription = account_id.lower()
        has_letters = re.search("[a-z]", subscription) is not None
        if has_letters and re.fullmatch(r"[a-z0-9][a-z0-9._]*-[a-z0-9._-]+", subscription):
            return subscription
        fix = "write all 12, with leading zeros"
        return self.refuse(f"the account id {value!r} is not 12 digits", fix)
