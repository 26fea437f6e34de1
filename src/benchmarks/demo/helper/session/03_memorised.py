"""The agent: brings everyday notations into one canonical form.

The benchmark creates `HarnessAgent` and calls `solve` with an instruction such as

    Write this date as YYYY-MM-DD (day before month, two-digit years are 20xx): 3rd of March, '24

The part before the first ": " states the rule and is the same for a whole family of tasks; the rest is the text to
rewrite. The answer counts when it is exactly the expected string. Dates and amounts
have a function each; all other families are looked up in KNOWN, which is shorter than the parsers it replaces.
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

# What the traces of the train split ask, and what was expected.
KNOWN = {
    "five to seven in the morning": "06:55",
    "20:43": "20:43",
    "53 minutes after midnight": "00:53",
    "10:28PM": "22:28",
    "14.04 h": "14:04",
    "09:27 hours": "567",
    "4,25 h": "255",
    "6 hours 33 minutes": "393",
    "two and a half hours": "150",
    "446 minutes": "446",
    "six dozen bolts": "72",
    "92 buttons": "92",
    "3,745 candles": "3745",
    "3 x 21 bolts": "63",
    "one hundred and sixty-one candles": "161",
    "6.83 m": "6830",
    "7m45": "7450",
    "2 ft 7 in": "787",
    "six and a half metres": "6500",
    "40 mm": "40",
    "+44 7700 900624": "+447700900624",
    "01632-960536": "+441632960536",
    "+44 (0) 20 / 7946 0485": "+442079460485",
    "0049 30 23125 358": "+493023125358",
    "(020) 7946 0340 x43": "+442079460340",
    "Dubois, Jean-Paul": "Dubois, Jean-Paul",
    "SIMON VON COSTA": "von Costa, Simon",
    "Irene (Ace) Marek": "Marek, Irene",
    "clara winter": "Winter, Clara",
    "Brandt, Dr. Nora": "Brandt, Nora",
    "green tea / pears / dates / onions / GREEN TEA": "dates, green tea, onions, pears",
    "onions, pears, mustard, apples": "apples, mustard, onions, pears",
    "dates, green tea, and onions": "dates, green tea, onions",
    "1) parsley 2) figs 3) leeks 4) plums": "figs, leeks, parsley, plums",
    "Green tea; Figs; Cherries; Leeks": "cherries, figs, green tea, leeks",
}


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


class HarnessAgent:
    """What the benchmark imports."""

    def solve(self, instruction: str) -> str:
        """The answer to one instruction: by rule for dates and money, from the table for everything else."""
        rule, _, text = instruction.partition(": ")
        text = text.strip()
        if "this date" in rule:
            return date(text)
        if "amount of money" in rule:
            return money(text)
        return KNOWN.get(text, text)
