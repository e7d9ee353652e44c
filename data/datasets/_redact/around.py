"""What stands around a number and says what it is: a passport number is nine digits after the word "passport".

Not covered: languages other than English, beyond the few words of German, French and Spanish that forms use.
"""

import re
from dataclasses import dataclass
from typing import Final

BEFORE: Final = 48
"""Characters before a number in which a word may say what it is."""
AFTER: Final = 24

PHONE: Final = re.compile(
    r"\b(?:phone|telephone|tele?|ph|mobile|mob|cell(?:phone|ular)?|fax|call(?:ed|ing|s)?|dial(?:led)?|ring|rang|sms|text(?:ed)?|txt"
    r"|whatsapp|contact(?: us| me)?|reach (?:me|us|him|her|them)|hotline|helpline|landline|voicemail|extension|number is"
    r"|handy|telefon|tél|tel[eé]fono)\b"
)
CARD: Final = re.compile(
    r"\b(?:cards?|visa|mastercard|amex|american express|discover|jcb|maestro|credit|debit|cc|cvv|cvc|exp(?:iry|ires)?)\b"
)
SSN: Final = re.compile(r"\b(?:ssns?|social|social security|soc sec|taxpayer|tax id|itin|tin)\b|\bss ?#")
PASSPORT: Final = re.compile(r"\bpassports?\b|\breisepass|\bpasaporte")
LICENCE: Final = re.compile(
    r"\b(?:driver'?s?|driving|drivers'|motorist)[ -]?(?:licen[cs]es?|lic\b|id\b|permit)|\bdl\b|\bdmv\b|\bf[üu]hrerschein"
)
BANK: Final = re.compile(
    r"\b(?:account|acct|a/c|bank|banking|checking|savings|chequing|current account|deposit(?:ed)?|beneficiary|wire|debit|konto)\b"
)
ROUTING: Final = re.compile(r"\b(?:routing|aba|rtn|transit|fedwire|ach)\b")
SORT_CODE: Final = re.compile(r"\bsort(?:[ -]?code)?\b|\bs/c\b")
NHS: Final = re.compile(r"\bnhs\b|\bnational health\b|\bpatient\b|\bhealth service\b|\bgp\b")
NINO: Final = re.compile(r"\bnational insurance\b|\bnino?\b|\binsurance (?:no|number)\b|\bhmrc\b")
BIRTH: Final = re.compile(
    r"\b(?:born|birth|birthday|birthdate|d\.?o\.?b\.?|b\.?day|geboren|geb\.|née?|né le|naissance|nacid[oa]|nacimiento)(?!\w)"
)
OTHER: Final = re.compile(
    r"\b(?:order|invoice|tracking|parcel|shipment|waybill|awb|ref(?:erence)?|ticket|case|serial|s/n|imei|sku|part|item|model"
    r"|isbn(?:-1[03])?|issn|ean|upc|barcode|gtin|asin|doi|pmid|patent|build|version|ver|rev(?:ision)?|release|firmware|v|timestamp"
    r"|epoch|unix time|commit|sha\d*|hash|checksum|md5|batch|lot|transaction|txn|confirmation|booking|reservation|po|purchase order"
    r"|job|issue|bug|article|product|catalog(?:ue)?|population|pid|id|uuid|request|session|row|record|sensor|meter|lottery|vin"
    r"|flight|chapter|train|bus|room|grant|docket|claim)(?: ?(?:no|nr|num|number|numbers|id|ids|code|#))?\.?"
    r"(?: (?:is|was|of|the|are|to|from|on|for|at|your|my|our|reads|says|shows|has))*[\s:=#(\[\"'`]*$"
)
"""Words that say, directly before a number, that it belongs to a thing and not to a person."""
MONEY: Final = re.compile(r"(?:[$€£¥₹]|\b(?:usd|eur|gbp|inr|rs\.?))\s*$")
PLACEHOLDER: Final = re.compile(r"<[A-Z][A-Z0-9_]{1,40}>")
_CUT_PLACEHOLDER: Final = re.compile(r"^[A-Z0-9_]{0,40}>")
_SENTENCE: Final = re.compile(
    r"\n[ \t]*\n|(?<!\bno)(?<!\bnr)(?<!\bnum)(?<!\bacct)(?<!\btel)(?<!\blic)(?<!\bgeb)(?<![.!?][a-z])[.!?]\s"
)
_NUMBER: Final = re.compile(r"\d[\d ./-]{4,}\d|\d{4}")
_LIST: Final = re.compile(r"[\d>]\s*(?:,|;|/|&|and|or|und)\s*$")


@dataclass(frozen=True, slots=True)
class Found:
    """A span that shall be replaced. rank: 0 wins over 1 where two overlap."""

    kind: str
    start: int
    end: int
    rank: int


def near(text: str, start: int, end: int, words: re.Pattern[str]) -> bool:
    """Whether one of the words stands near the span, in its sentence, and speaks of no other number before it."""
    return after(text, start, words) or words.search(_SENTENCE.split(_plain(text[end : end + AFTER]), 1)[0]) is not None


def after(text: str, start: int, words: re.Pattern[str]) -> bool:
    """Whether the span that begins at `start` comes after one of the words; see `near`."""
    lead = _lead(text, start)
    found = list(words.finditer(lead))
    if not found:
        return False
    between = lead[found[-1].end() :]
    return _SENTENCE.search(between) is None and (_NUMBER.search(between) is None or _LIST.search(between) is not None)


def is_a_things(text: str, start: int) -> bool:
    """Whether the words directly before a number say that it counts or names a thing: an order, a version, a price."""
    lead = _lead(text, start)
    return OTHER.search(lead) is not None or MONEY.search(lead) is not None


def _lead(text: str, start: int) -> str:
    lead = text[max(0, start - BEFORE) : start]
    return _plain(_CUT_PLACEHOLDER.sub("<0000>", lead) if start > BEFORE else lead)


def _plain(text: str) -> str:
    """Lower case, `date_of_birth` as words, placeholders as the numbers they stand for."""
    return PLACEHOLDER.sub("<0000>", text).lower().replace("_", " ")
