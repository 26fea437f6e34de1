"""The agent: brings everyday notations into one canonical form.

The benchmark creates `HarnessAgent` and calls `solve` with an instruction such as

    Write this date as YYYY-MM-DD (day before month, two-digit years are 20xx): 3rd of March, '24

The part before the first ": " states the rule and is the same for a whole family of tasks; the rest is the text to
rewrite. The answer counts when it is exactly the expected string. One function per family, found by PARSERS.
"""

import re

MONTHS = "january february march april may june july august september october november december".split()
ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
NUMBER_WORDS = {word: value for value, word in enumerate(ONES)}
NUMBER_WORDS.update({word: 20 + 10 * step for step, word in enumerate(TENS)})

CURRENCIES = {"euros": "EUR", "dollars": "USD", "pounds": "GBP", "€": "EUR", "$": "USD", "£": "GBP"}
CURRENCIES.update({"eur": "EUR", "usd": "USD", "gbp": "GBP"})


def tokens(text):
    """The text as a list of numbers and lower-case words; punctuation goes, number words become numbers.

    All families but the plainest read this list, so that spelling is dealt with in one place.
    """
    found = []
    for token in re.findall(r"\d+|[^\W\d_]+|[$€£]", text.lower()):
        if token.isdigit():
            found.append(int(token))
        elif token == "hundred" and found and isinstance(found[-1], int):
            found[-1] *= 100
        elif token in NUMBER_WORDS:
            value = NUMBER_WORDS[token]
            if found and isinstance(found[-1], int) and found[-1] % 100 == 0 and found[-1] > 0:
                found[-1] += value
            elif found and isinstance(found[-1], int) and 20 <= found[-1] % 100 and found[-1] % 10 == 0 and value < 10:
                found[-1] += value
            else:
                found.append(value)
        elif token == "and" and found and isinstance(found[-1], int) and found[-1] % 100 == 0:
            continue
        else:
            found.append(token)
    return found


def numbers(text):
    """The numbers among the tokens."""
    return [token for token in tokens(text) if isinstance(token, int)]


def date(text):
    """2024-03-05: a month by name or number, and the year first or last."""
    found = numbers(text)
    for token in tokens(text):
        if isinstance(token, str) and len(token) >= 3:
            found += [index for index, month in enumerate(MONTHS, 1) if month.startswith(token)]
    if len(found) != 3:
        return text
    if any(isinstance(token, str) and len(token) >= 3 for token in tokens(text)):
        day, year, month = found
    elif found[0] > 31:
        year, month, day = found
    else:
        day, month, year = found
    return f"{year:04}-{month:02}-{day:02}"


def clock_time(text):
    """17:40 from hours and minutes, or minutes after noon and midnight."""
    found, listed = numbers(text), tokens(text)
    if "noon" in listed or "midnight" in listed:
        return f"{12 if 'noon' in listed else 0}:{found[0]:02}".zfill(5)
    if len(found) == 1:
        found = [found[0] // 100, found[0] % 100]
    if len(found) != 2:
        return text
    hour, minute = found
    if "pm" in listed and hour < 12:
        hour += 12
    return f"{hour:02}:{minute:02}"


def minutes(text):
    """Whole minutes: two numbers are hours and minutes, a half is thirty of them."""
    found, listed = numbers(text), tokens(text)
    if "half" in listed:
        found = found[:1] + [30]
    if len(found) == 2:
        return str(found[0] * 60 + found[1])
    return str(found[0]) if found else text


def money(text):
    """12.50 EUR: all numbers but the last are the whole part, the last one is the cents."""
    found = numbers(text)
    code = next((CURRENCIES[token] for token in tokens(text) if token in CURRENCIES), None)
    if not code or len(found) < 2:
        return text
    whole = "".join(str(number) for number in found[:-1])
    return f"{whole}.{found[-1]:02} {code}"


def quantity(text):
    """How many single things: counted, in dozens and pairs, or so many packs of so many."""
    found, listed = numbers(text.replace(",", "")), tokens(text)
    if not found:
        return text
    if len(found) == 2:
        return str(found[0] * found[1])
    return str(found[0] * (12 if "dozen" in listed else 2 if "pairs" in listed else 1))


def millimetres(text):
    """Whole millimetres from a single metric length."""
    match = re.fullmatch(r"([\d.]+) ?(mm|cm|m)", text)
    if not match:
        return text
    number, unit = match.groups()
    return str(round(float(number) * {"mm": 1, "cm": 10, "m": 1000}[unit]))


def phone(text):
    """+442079460123 from any way of writing the country code, without trunk zero and extension."""
    text = re.split(r"(?i) (?:x|ext)", text)[0].replace("(0)", "")
    digits = re.sub(r"\D", "", text)
    if text.startswith("+"):
        return "+" + digits
    if digits.startswith("00"):
        return "+" + digits[2:]
    return "+44" + digits[1:]


def name(text):
    """Surname, Given names."""
    if "," in text:
        surname, given = text.split(",", 1)
    else:
        given, surname = text.rsplit(" ", 1)
    return f"{surname.strip().title()}, {given.strip().title()}"


def item_list(text):
    """Items between any of the usual separators, each once, sorted."""
    pieces = re.split(r"[,;/&]|\d+[.)] |(?:^| )- |\band\b|\bplus\b|\bas well as\b", text.lower())
    return ", ".join(sorted({piece.strip() for piece in pieces if piece.strip()}))


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
