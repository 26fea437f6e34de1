"""The agent: brings everyday notations into one canonical form.

The benchmark creates `HarnessAgent` and calls `solve` with an instruction such as

    Write this date as YYYY-MM-DD (day before month, two-digit years are 20xx): 3rd of March, '24

The part before the first ": " states the rule and is the same for a whole family of tasks; the rest is the text to
rewrite. The answer counts when it is exactly the expected string. One function per family, found by PARSERS.
"""

import re
from decimal import ROUND_HALF_UP, Decimal

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
GROUPS = {"dozen": 12, "pair": 2, "pairs": 2}
FRACTIONS = {"a quarter": "0.25", "a half": "0.5", "three quarters": "0.75"}
FRACTION_SIGNS = {"1/4": "0.25", "¼": "0.25", "1/2": "0.5", "½": "0.5", "3/4": "0.75", "¾": "0.75"}
MILLIMETRES = {
    "mm": "1", "cm": "10", "m": "1000", "millimetre": "1", "centimetre": "10", "metre": "1000",
    "in": "25.4", "inch": "25.4", '"': "25.4", "ft": "304.8", "foot": "304.8", "feet": "304.8", "'": "304.8",
}
TITLES = {"dr", "prof", "mr", "mrs", "ms", "miss", "sir", "dame", "phd", "md", "msc", "mba"}
PARTICLES = {"van", "von", "der", "den", "de", "del", "della", "di", "da", "la", "le", "du", "ten", "ter", "zu"}


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


def with_fractions(text):
    """As `with_digits`, with "two and a half hours" and "two hours and a half" turned into "2.5 hours"."""
    text = text.lower()
    for words, value in FRACTIONS.items():
        text = re.sub(rf"\b{words}\b", f"<{value}>", text)
    text = with_digits(text)
    text = re.sub(r"(\d+) and <0(\.\d+)>", r"\1\2", text)
    return re.sub(r"(\d+) ([a-z]+) and <0(\.\d+)>", r"\1\3 \2", text)


def whole(value):
    """The decimal number as a rounded whole one."""
    return str(int(value.quantize(Decimal(1), ROUND_HALF_UP)))


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
    """17:40 from digits, from words, and from minutes before and after noon and midnight."""
    text = re.sub(r"\b([ap])\.m\.?", r"\1m", with_digits(text))
    anchored = re.search(r"(\d+) minutes? (after|past|before|to) (noon|midnight)", text)
    spoken = re.search(r"(\d+|quarter|half)(?: minutes?)? (past|to) (\d+)", text)
    digits = re.search(r"(\d{1,2}) ?[:.h]? ?(\d\d)(?!\d)", text)
    if anchored:
        count, side, anchor = anchored.groups()
        total = (720 if anchor == "noon" else 0) + int(count) * (1 if side in ("after", "past") else -1)
    elif spoken:
        count, side, hour = spoken.groups()
        count = {"quarter": 15, "half": 30}.get(count) or int(count)
        total = int(hour) % 12 * 60 + (count if side == "past" else -count)
        if "afternoon" in text or "evening" in text:
            total += 720
    elif digits:
        hour, minute = int(digits.group(1)), int(digits.group(2))
        if re.search(r"[ap]m\b", text):
            hour = hour % 12 + (12 if "pm" in text else 0)
        total = hour * 60 + minute
    else:
        return text
    return f"{total // 60 % 24:02}:{total % 60:02}"


def minutes(text):
    """Whole minutes from any mixture of days, hours and minutes."""
    text = with_fractions(text)
    clock = re.search(r"(\d+):(\d\d)", text)
    if clock:
        return str(int(clock.group(1)) * 60 + int(clock.group(2)))
    total = Decimal(0)
    for number, unit in re.findall(r"(\d+(?:[.,]\d+)?) ?(d|h|m)", text):
        total += Decimal(number.replace(",", ".")) * {"d": 1440, "h": 60, "m": 1}[unit]
    return whole(total) if total else text


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
    """How many single things: counted, in dozens and pairs, or so many packs of so many."""
    text = with_fractions(text)
    numbers = [Decimal(number) for number in re.findall(r"\d+(?:\.\d+)?", text.replace(",", ""))]
    if not numbers:
        return text
    if len(numbers) == 2 and re.search(r"\d x \d|\bof \d", text):
        return whole(numbers[0] * numbers[1])
    factor = next((GROUPS[word] for word in re.findall("[a-z]+", text) if word in GROUPS), 1)
    return whole(numbers[0] * factor)


def millimetres(text):
    """Whole millimetres from metric and imperial lengths, compound ones and fractions included."""
    text = with_fractions(text)
    for sign, value in FRACTION_SIGNS.items():
        text = re.sub(rf"(\d+) ?{sign}", lambda found, tail=value[1:]: found.group(1) + tail, text)
    total, last = Decimal(0), None
    for number, unit in re.findall(r"""(\d+(?:\.\d+)?) ?([a-z]+|['"])?""", text):
        # A number without a unit continues the one before: 1m80, 6 feet 2.
        unit = unit or {"m": "cm", "metre": "cm", "feet": "in", "foot": "in", "ft": "in", "'": "in"}.get(last, "")
        unit = unit if unit in MILLIMETRES else {"inches": "inch"}.get(unit, unit.rstrip("s"))
        if unit not in MILLIMETRES:
            return text
        total += Decimal(number) * Decimal(MILLIMETRES[unit])
        last = unit
    return whole(total)


def phone(text):
    """+442079460123 from any way of writing the country code, without trunk zero and extension."""
    text = re.sub(r"(?i)\W*\b(?:x|ext\.?|extension) ?\d+\s*$", "", text)
    text = re.sub(r"[^\d+]", "", text.replace("(0)", ""))
    if text.startswith("+"):
        return text
    if text.startswith("00"):
        return "+" + text[2:]
    return "+44" + text.lstrip("0")


def name(text):
    """Surname, Given names; the surname starts at the first particle, or is the last word."""
    text = re.sub(r""""[^"]*"|\([^)]*\)|(?<!\w)'[^']*'""", " ", text)
    parts = [
        [word for word in part.split() if word.strip(".").lower() not in TITLES]
        for part in text.split(",")
    ]
    parts = [part for part in parts if part]
    if len(parts) == 2:
        surname, given = parts
    else:
        words = parts[0]
        start = next((i for i, word in enumerate(words) if i and word.lower() in PARTICLES), len(words) - 1)
        given, surname = words[:start], words[start:]
    surname = [word.lower() if word.lower() in PARTICLES else word.title() for word in surname]
    return f"{' '.join(surname)}, {' '.join(given).title()}"


def item_list(text):
    """Items between any of the usual separators, each once, sorted."""
    pieces = re.split(r"[,;/&]|\d+[.)] |(?:^| )- |\band\b|\bplus\b|\bas well as\b", text.lower())
    return ", ".join(sorted({piece.strip(" .") for piece in pieces if piece.strip(" .")}))


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
