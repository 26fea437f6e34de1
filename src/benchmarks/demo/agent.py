"""The agent: brings everyday notations into one canonical form.

The benchmark creates `HarnessAgent` and calls `solve` with an instruction such as

    Write this date as YYYY-MM-DD (day before month, two-digit years are 20xx): 3rd of March, '24

The part before the first ": " states the rule and is the same for a whole family of tasks; the rest is the text to
rewrite. The answer counts when it is exactly the expected string. One function per family, found by PARSERS.
"""

import re

SYMBOLS = {"$": "USD", "€": "EUR", "£": "GBP"}


def date(text):
    """2024-03-05 from numbers with a four-digit year at either end."""
    match = re.fullmatch(r"(\d{4})[./-](\d{1,2})[./-](\d{1,2})", text)
    if match:
        year, month, day = match.groups()
        return f"{year}-{int(month):02}-{int(day):02}"
    match = re.fullmatch(r"(\d{1,2})[./-](\d{1,2})[./-](\d{4})", text)
    if match:
        day, month, year = match.groups()
        return f"{year}-{int(month):02}-{int(day):02}"
    return text


def clock_time(text):
    """17:40 from 17:40 or 5:40 pm."""
    match = re.fullmatch(r"(\d{1,2}):(\d\d) ?(am|pm)?", text.lower())
    if not match:
        return text
    hour, minute, half = match.groups()
    hour = int(hour)
    if half == "pm":
        hour += 12
    return f"{hour:02}:{minute}"


def minutes(text):
    """Whole minutes from hours and minutes written in digits."""
    match = re.fullmatch(r"(?:(\d+) ?h\w* (?:and )?)?(\d+) ?min\w*", text)
    if not match:
        return text
    hours, rest = match.groups()
    return str(int(hours or 0) * 60 + int(rest))


def money(text):
    """12.50 EUR from a plain number with a currency code or sign."""
    number = re.search(r"\d+\.\d\d", text)
    code = re.search(r"EUR|USD|GBP", text)
    if number and code:
        return f"{number.group()} {code.group()}"
    if number and text[0] in SYMBOLS:
        return f"{number.group()} {SYMBOLS[text[0]]}"
    return text


def quantity(text):
    """The number in front of the thing that is counted."""
    match = re.match(r"\d[\d,]*", text)
    return match.group().replace(",", "") if match else text


def millimetres(text):
    """Whole millimetres from a single metric length."""
    match = re.fullmatch(r"([\d.]+) ?(mm|cm|m)", text)
    if not match:
        return text
    number, unit = match.groups()
    return str(round(float(number) * {"mm": 1, "cm": 10, "m": 1000}[unit]))


def phone(text):
    """+442079460123 from a number that starts with its country code or with 0."""
    digits = re.sub(r"\D", "", text)
    if text.startswith("+"):
        return "+" + digits
    return "+44" + digits[1:]


def name(text):
    """Surname, Given names."""
    if "," in text:
        surname, given = text.split(",", 1)
    else:
        given, surname = text.rsplit(" ", 1)
    return f"{surname.strip().title()}, {given.strip().title()}"


def item_list(text):
    """Items between commas or semicolons, sorted."""
    items = [item.strip().lower() for item in re.split("[,;]", text)]
    return ", ".join(sorted(items))


# Words of the rule that tell the family, and the function that deals with it.
PARSERS = [
    ("this date", date),
    ("clock time", clock_time),
    ("how many minutes", minutes),
    ("amount of money", money),
    ("single items", quantity),
    ("millimetres", millimetres),
    ("phone number", phone),
    ("this name", name),
    ("Sort these items", item_list),
]


class HarnessAgent:
    """What the benchmark imports."""

    def solve(self, instruction: str) -> str:
        """The answer to one instruction."""
        rule, _, text = instruction.partition(": ")
        for words, parse in PARSERS:
            if words in rule:
                return parse(text.strip())
        return text.strip()
