"""The agent: brings everyday notations into one canonical form.

The benchmark creates `HarnessAgent` and calls `solve` with an instruction such as

    Write this date as YYYY-MM-DD (day before month, two-digit years are 20xx): 3rd of March, '24

The part before the first ": " states the rule and is the same for a whole family of tasks; the rest is the text to
rewrite. The answer counts when it is exactly the expected string. One function per family, found by PARSERS.
"""

import re
from decimal import Decimal

MONTHS = "january february march april may june july august september october november december".split()
ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
NUMBER_WORDS = {word: value for value, word in enumerate(ONES)}
NUMBER_WORDS.update({word: 20 + 10 * step for step, word in enumerate(TENS)})

# A run of number words: "one hundred and sixty-one", "seventeen".
NUMBER_WORD = "(?:" + "|".join(sorted(NUMBER_WORDS, key=len, reverse=True)) + "|hundred)"
NUMBER_RUN = re.compile(rf"\b{NUMBER_WORD}\b(?:(?:[ -]| and ){NUMBER_WORD}\b)*")

CURRENCIES = {
    "eur": "EUR", "€": "EUR", "euro": "EUR", "euros": "EUR",
    "usd": "USD", "$": "USD", "dollar": "USD", "dollars": "USD",
    "gbp": "GBP", "£": "GBP", "pound": "GBP", "pounds": "GBP",
}
SCALES = {"k": 1000, "thousand": 1000, "m": 1000000, "million": 1000000}


def number_value(words):
    """The value of a run of number words."""
    total = 0
    for word in re.findall("[a-z]+", words):
        if word == "hundred":
            total = max(total, 1) * 100
        else:
            total += NUMBER_WORDS.get(word, 0)
    return total


def with_digits(text):
    """The text in lower case with every number in words turned into digits."""
    return NUMBER_RUN.sub(lambda run: str(number_value(run.group())), text.lower())


def date(text):
    """2024-03-05 from any order of day, month and year that the rule allows."""
    numbers = re.findall(r"\d+", text)
    named = [
        index
        for word in re.findall(r"[a-z]{3,}", text.lower())
        for index, month in enumerate(MONTHS, 1)
        if month.startswith(word)
    ]
    if named and len(numbers) == 2:
        (day, year), month = numbers, named[0]
    elif len(numbers) == 3 and len(numbers[0]) == 4:
        year, month, day = numbers
    elif len(numbers) == 3:
        day, month, year = numbers
    else:
        return text
    return f"{int(year) % 100 + 2000}-{int(month):02}-{int(day):02}"


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
    """12.50 EUR from digits or words, either decimal sign, and thousands or millions."""
    text = with_digits(text)
    code = next((CURRENCIES[word] for word in re.findall(r"[a-z]+|[$€£]", text) if word in CURRENCIES), None)
    both = re.search(r"(\d+) (?:euros?|dollars?|pounds?)(?: and)? (\d+)", text)
    plain = re.search(r"\d[\d., ]*", text)
    if not code or not plain:
        return text
    if both:
        value = Decimal(both.group(1)) + Decimal(both.group(2)) / 100
    else:
        number = plain.group().strip(" .,")
        cents = re.search(r"[.,](\d{1,2})$", number)
        main = number[: cents.start()] if cents else number
        value = Decimal(re.sub(r"\D", "", main) + "." + (cents.group(1) if cents else "0"))
        scale = re.search(r"\d ?(k|thousand|million|m)\b", text)
        if scale:
            value *= SCALES[scale.group(1)]
    return f"{value:.2f} {code}"


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
