"""Blocks IBANs in prompts, and masks them in replies.

"plugins": { "iban_guard": { "countries": ["DE", "AT"] } }
"""

import re
from typing import Annotated

from gateway.contract import filter as filters
from gateway.contract.filter import blocked, hold
from gateway.contract.samples import FilterSample
from pydantic import AfterValidator, Field

api = 1
blocks = True

LENGTHS = {
    "AT": 20, "BE": 16, "CH": 21, "CZ": 24, "DE": 22, "DK": 18, "ES": 24, "FI": 18, "FR": 27, "GB": 22, "GR": 27,
    "HU": 28, "IE": 22, "IT": 27, "LI": 21, "LU": 20, "MT": 31, "NL": 18, "NO": 15, "PL": 28, "PT": 25, "SE": 24,
}  # fmt: skip
LONGEST = 31 + 7  # with a space after each four characters


def known(code):
    if code not in LENGTHS:
        raise ValueError(f'"{code}" is none of {", ".join(LENGTHS)}')
    return code


class Settings(filters.Settings):
    countries: list[Annotated[str, AfterValidator(known)]] = Field(
        [], description='Countries whose IBANs are looked for, such as "DE"; all if it is empty.'
    )


def open(call, settings):
    return IbanGuard(settings.countries or list(LENGTHS))


class IbanGuard:
    def __init__(self, countries):
        self.pattern = re.compile("|".join(shape(code, LENGTHS[code]) for code in countries), re.IGNORECASE)

    def request(self, asked):
        for text in asked.texts:
            for start, end in self.found(text.text):
                iban = text.text[start:end]
                raise blocked("iban", f"the prompt has an IBAN ({iban[:4]}…{iban[-2:]}); take it out and send it again")

    def text(self, kind, piece, last):
        masked, done = "", 0
        for start, end in self.found(piece):
            masked += piece[done:start] + "[IBAN]"
            done = end
        return hold(masked + piece[done:], LONGEST - 1, last)

    def found(self, text):
        at = 0
        while match := self.pattern.search(text, at):
            at = match.start() + 1
            if valid(match.group()):
                at = match.end()
                yield match.start(), at


def shape(code, length):
    groups, left = divmod(length - 4, 4)
    end = f" ?[A-Z0-9]{{{left}}}" if left else ""
    return rf"{code}[0-9]{{2}}(?: ?[A-Z0-9]{{4}}){{{groups}}}{end}"


def valid(iban):
    letters = iban.replace(" ", "").upper()
    return int("".join(str(int(letter, 36)) for letter in letters[4:] + letters[:4])) % 97 == 1


def samples():
    return [
        FilterSample(Settings(), texts=("pay to DE89 3704 0044 0532 0130 00, please", "DE89370400440532013000")),
        FilterSample(Settings(countries=["NL"]), texts=("NL91ABNA0417164300",)),
    ]
