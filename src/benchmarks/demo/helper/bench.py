#!/usr/bin/env python3
"""The demo benchmark: everyday notations, brought into one canonical form.

Each task is a sentence such as "Write this date as YYYY-MM-DD (...): 3rd of March, '24" and one right answer. Reward is
1.0 when the agent's answer, stripped of surrounding white space, equals the expected one, and 0.0 otherwise.

The program speaks version 1 of the trial protocol: one JSON request on stdin, JSON lines on stdout, words for humans on
stderr. It needs nothing but Python 3.9 or newer, and is meant to be read by people who write their own benchmark:

    tasks     one generator per family: the value is drawn first, then written down in one of five styles
    worker    the child process that runs the agent; it is sent instructions and never sees an expected answer
    runner    hands out trials to workers, limits their time, grades, reports
    main      reads and checks the request

Workers run behind autoharness's fence: they have Python's files and the agent's, a socket to this program, and nothing
else, least of all this file or this program's output. Without a fence (`fence: off`, or not Linux) they share a user with
this program, and a determined agent could go looking.

Exit status: 0 when every trial was reported, 1 when the run broke off, 2 when the request makes no sense.
"""

import collections
import datetime
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time

import request

# ---------------------------------------------------------------------------------------------------------- tasks

# Part of what makes two scores comparable: another seed is another benchmark.
SEED = "demo 1"
STYLES = 5

Task = collections.namedtuple("Task", "id family split instruction expected")

MONTHS = "January February March April May June July August September October November December".split()
WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
TENS = "- - twenty thirty forty fifty sixty seventy eighty ninety".split()
ITEMS = "eggs bolts bottles tiles pencils envelopes candles screws buttons".split()
PAIRED = "socks gloves shoes skis".split()
FOODS = (
    "apples;pears;figs;plums;cherries;bread rolls;olive oil;sea salt;honey;butter;rice;lentils;walnuts;green tea;"
    "oat milk;mustard;onions;leeks;parsley;dates"
).split(";")
GIVEN = "Anna Jan Maria Peter Clara Hugo Irene Oscar Lucia Felix Nora Simon Greta Victor Anna-Lena Jean-Paul".split()
SURNAMES = "Schmidt Berg Rossi Novak Keller Dubois Lindgren Moreau Fischer Hansen Costa Winter Marek Brandt".split()
PARTICLES = ("van", "van der", "de", "de la", "von", "della")
NICKNAMES = "Bob Mimi Ace Sunny Kit Duke Pip".split()
CURRENCIES = (
    ("EUR", "\u20ac", "euros", "cents"),
    ("USD", "$", "dollars", "cents"),
    ("GBP", "\u00a3", "pounds", "pence"),
)


def in_words(number):
    """The number (0 to 999,999) in English words."""
    if number < 20:
        return ONES[number]
    if number < 100:
        return TENS[number // 10] + ("-" + ONES[number % 10] if number % 10 else "")
    if number < 1000:
        return ONES[number // 100] + " hundred" + (" and " + in_words(number % 100) if number % 100 else "")
    return in_words(number // 1000) + " thousand" + (" " + in_words(number % 1000) if number % 1000 else "")


def ordinal(number):
    """The number with its English ending: 1st, 2nd, 11th."""
    ending = "th" if number in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


# The generators. Each draws a value and returns it in canonical form, and as somebody might write it in the given style
# (0 to 4). Styles 0 and 1 are what the starting agent reads already. Within a style, the wording varies.


def dates(rng, style):
    value = datetime.date(rng.randint(2021, 2029), rng.randint(1, 12), rng.randint(1, 28))
    day, month, year, short = value.day, value.month, value.year, value.year % 100
    name, weekday, sep = MONTHS[month - 1], WEEKDAYS[value.weekday()], rng.choice("./-")
    brief = rng.choice((name[:3], name[:3] + "."))
    text = (
        (f"{year}{sep}{month}{sep}{day}", f"{year}{sep}{month:02}{sep}{day:02}"),
        (f"{day:02}{sep}{month:02}{sep}{year}", f"{day}{sep}{month}{sep}{year}"),
        (f"{day}{sep}{month}{sep}{short}", f"{day:02}{sep}{month:02}{sep}{short}", f"{day}. {month}. {year}"),
        (
            f"{ordinal(day)} of {name}, '{short}",
            f"{weekday}, {day} {brief} {year}",
            f"the {ordinal(day)} of {name} {year}",
        ),
        (f"{name} {ordinal(day)}, {year}", f"{weekday}, {brief} {day}, {year}", f"{brief} {day} '{short}"),
    )[style]
    return value.isoformat(), rng.choice(text)


def times(rng, style):
    hour, minute = rng.randint(1, 23), rng.randint(1, 59)
    if style == 1:
        hour += hour == 12
    if style == 3:
        hour, minute = rng.choice((5, 6, 7, 8, 9, 10, 13, 14, 15, 16, 18, 19, 20, 21)), rng.randint(1, 11) * 5
    if style == 4:
        hour = rng.choice((0, 12))
    half = "am" if hour < 12 else "pm"
    part = "morning" if hour < 12 else "afternoon" if hour < 17 else "evening"
    count = {15: "quarter", 30: "half"}.get(min(minute, 60 - minute)) or in_words(min(minute, 60 - minute))
    past = f"{count} past {in_words((hour - 1) % 12 + 1)}" if minute <= 30 else f"{count} to {in_words(hour % 12 + 1)}"
    text = (
        (f"{hour}:{minute:02}", f"{hour:02}:{minute:02}"),
        (f"{(hour - 1) % 12 + 1}:{minute:02} {half}", f"{(hour - 1) % 12 + 1}:{minute:02}{half.upper()}"),
        (f"{hour:02}{minute:02} hrs", f"{hour}h{minute:02}", f"{hour}.{minute:02} h"),
        (f"{past} in the {part}",),
        (
            f"12:{minute:02} {half}",
            f"12.{minute:02} {half[0]}.m.",
            f"{minute} minutes after {'noon' if hour else 'midnight'}",
        ),
    )[style]
    return f"{hour:02}:{minute:02}", rng.choice(text)


def durations(rng, style):
    hours, minutes = rng.randint(2, 9), rng.randint(1, 59)
    quarter = rng.choice((1, 2, 3))
    if style in (3, 4):
        minutes = quarter * 15
    value, word = hours * 60 + minutes, in_words(hours)
    part = ("a quarter", "a half", "three quarters")[quarter - 1]
    text = (
        (f"{value} minutes", f"{value} min"),
        (f"{hours} hours {minutes} minutes", f"{hours}h {minutes}min", f"{hours} hours and {minutes} min"),
        (f"{hours}:{minutes:02} h", f"{hours:02}:{minutes:02} hours", f"{hours}:{minutes:02} (h:mm)"),
        (f"{word} and {part} hours", f"{word} hours and {part}"),
        (f"{hours}.{quarter * 25} hours", f"{hours},{quarter * 25} h", f"1 day and {hours}.{quarter * 25} hours"),
    )[style]
    text = rng.choice(text)
    return str(value + 1440 * text.startswith("1 day")), text


def amounts(rng, style):
    code, symbol, plural, small = rng.choice(CURRENCIES)
    whole, cents = rng.randint(2, 99), rng.randint(10, 99)
    if style == 2:
        whole = rng.randint(1001, 98999)
    comma = f"{whole:,}"
    if style == 3:
        tenths = rng.randint(11, 99)
        scale, thousand = rng.choice((("k", True), (" thousand", True), ("m", False), (" million", False)))
        whole, cents = tenths * (100 if thousand else 100000), 0
        scaled = f"{tenths / 10}{scale}"
        text = (f"{symbol}{scaled}", f"{scaled} {code}" if len(scale) == 1 else f"{scaled} {plural}")
    else:
        text = (
            (f"{whole}.{cents} {code}", f"{code} {whole}.{cents}"),
            (f"{symbol}{whole}.{cents}", f"{symbol} {whole}.{cents}"),
            (
                f"{comma.replace(',', '.')},{cents} {symbol}",
                f"{code} {comma.replace(',', ' ')},{cents}",
                f"{symbol}{comma}.{cents}",
            ),
            (),
            (
                f"{whole} {plural} {cents}",
                f"{in_words(whole)} {plural} and {cents} {small}",
                f"{in_words(whole)} {plural} and {in_words(cents)} {small}",
            ),
        )[style]
    return f"{whole}.{cents:02} {code}", rng.choice(text)


def quantities(rng, style):
    item, one, two = rng.choice(ITEMS), rng.randint(2, 12), rng.randint(3, 24)
    if style == 2:
        value, text = rng.choice((
            (one * 12, f"{in_words(one)} dozen {item}"),
            (one * 12 + 6, f"{in_words(one)} and a half dozen {item}"),
            (two * 2, f"{two} pairs of {rng.choice(PAIRED)}"),
        ))
    elif style == 4:
        value = one * two
        packs = f"{in_words(one)} packs of {in_words(two)}"
        text = rng.choice((f"{one} boxes of {two} {item}", f"{one} x {two} {item}", packs))
    else:
        value = rng.randint(*{0: (13, 99), 1: (1001, 9999), 3: (21, 399)}[style])
        text = f"{in_words(value) if style == 3 else format(value, ',')} {item}"
    return str(value), text


def measures(rng, style):
    metres, small = rng.randint(2, 9), rng.randint(11, 99)
    quarters = rng.choice([q for q in range(5, 48) if q % 4 and q % 10])  # Multiples of ten could be rounding ties.
    inches, part = divmod(quarters, 4)
    options = (
        ((small, f"{small} mm"), (small * 10, f"{small} cm")),
        ((metres * 1000 + small * 10, f"{metres}.{small} m"), (small * 10 + metres, f"{small}.{metres} cm")),
        (
            (metres * 1000 + small * 10, f"{metres} m {small} cm"),
            (metres * 1000 + small * 10, f"{metres} metres and {small} centimetres"),
            (metres * 1000 + small * 10, f"{metres}m{small}"),
        ),
        (
            ((metres * 12 + inches) * 25.4, f"{metres} ft {inches} in"),
            ((metres * 12 + inches) * 25.4, f"{metres}'{inches}\""),
            ((metres * 12 + inches) * 25.4, f"{metres} feet {inches}"),
        ),
        (
            (quarters * 6.35, f"{inches} {('1/4', '1/2', '3/4')[part - 1]} inches"),
            (quarters * 6.35, f"{inches}{chr(0xBB + part)} in"),
            (metres * 1000 + 500, f"{in_words(metres)} and a half metres"),
        ),
    )[style]
    value, text = rng.choice(options)
    return str(round(value)), text


def phones(rng, style):
    line = f"{rng.randint(100, 999)}"
    country, area, rest = rng.choice((
        ("44", "20", ["7946", "0" + line]),
        ("44", "1632", ["960" + line]),
        ("44", "7700", ["900" + line]),
        ("49", "30", ["23125", line]),
    ))
    if style in (1, 4):
        country = "44"
    extension = rng.randint(10, 99)
    text = (
        (f"+{country} {area} {' '.join(rest)}", f"+{country}-{area}-{'-'.join(rest)}"),
        (f"0{area} {' '.join(rest)}", f"0{area}-{'-'.join(rest)}"),
        (f"+{country} (0){area} {' '.join(rest)}", f"+{country} (0) {area} / {' '.join(rest)}"),
        (f"00{country} {area} {' '.join(rest)}", f"00 {country} ({area}) {'-'.join(rest)}"),
        (f"Tel.: 0{area}-{'-'.join(rest)} ext. {extension}", f"(0{area}) {' '.join(rest)} x{extension}"),
    )[style]
    return f"+{country}{area}{''.join(rest)}", rng.choice(text)


def names(rng, style):
    given, surname, nickname = rng.choice(GIVEN), rng.choice(SURNAMES), rng.choice(NICKNAMES)
    second = rng.choice([name for name in GIVEN if name != given and "-" not in name])
    if style == 3:
        surname = f"{rng.choice(PARTICLES)} {surname}"
    text = (
        (f"{given} {surname}", f"{given.lower()} {surname.lower()}"),
        (f"{surname}, {given}", f"{surname.upper()}, {given}"),
        (f"Dr. {given} {surname}", f"Prof. Dr. {given} {surname}", f"Ms {given} {surname}, PhD", f"{surname}, Dr. {given}"),
        (f"{given} {surname}", f"{given.upper()} {surname.upper()}", f"{given} {surname.title()}"),
        (f'{given} "{nickname}" {surname}', f"{given} ({nickname}) {surname}", f"{given} {second} '{nickname}' {surname}"),
    )[style]
    text = rng.choice(text)
    return f"{surname}, {given}{' ' + second if f' {second} ' in text else ''}", text


def lists(rng, style):
    items = rng.sample(FOODS, rng.choice((3, 4)))
    last, first = items[-1], items[0]
    text = (
        (", ".join(items), ", ".join(item.capitalize() for item in items)),
        ("; ".join(items), "; ".join(item.capitalize() for item in items)),
        (f"{', '.join(items[:-1])} and {last}", f"{', '.join(items[:-1])}, and {last}", " & ".join(items)),
        (
            " ".join(f"{number}) {item}" for number, item in enumerate(items, 1)),
            " ".join(f"- {item}" for item in items),
        ),
        (" / ".join(items + [first.upper()]), f"{', '.join(items[:-1])} plus {last} as well as {first}"),
    )[style]
    return ", ".join(sorted(items)), rng.choice(text)


FAMILIES = (
    ("dates", dates, "Write this date as YYYY-MM-DD (day before month, two-digit years are 20xx)"),
    ("times", times, "Write this clock time as HH:MM on the 24-hour clock (12 am is midnight, 12 pm is noon)"),
    ("durations", durations, "Say how many minutes this is, as a whole number (a comma or point is a decimal one)"),
    (
        "amounts",
        amounts,
        'Write this amount of money like "1234.50 EUR", with EUR, USD or GBP (two digits at the end are cents)',
    ),
    ("quantities", quantities, "Say how many single items this is, as a whole number (a comma groups thousands)"),
    ("measures", measures, "Say how many millimetres this length is, rounded to a whole number (1 inch is 25.4 mm)"),
    (
        "phones",
        phones,
        "Write this phone number as +, country code and number, digits only (British, +44, when it names none)",
    ),
    (
        "names",
        names,
        'Write this name as "Surname, Given names" without titles, degrees and nicknames (van, de, von and the like belong '
        "to the surname and stay in lower case)",
    ),
    ("lists", lists, "Sort these items alphabetically, in lower case, each once, joined by a comma and a space"),
)


def build_tasks():
    """Every task by id, the same in every run.

    Each family has a train task in each style, and three test tasks in styles that rotate from family to family, so that
    the hold-out asks for the same skills. No value occurs twice in a family, so remembered answers do not help there.
    """
    tasks = {}
    for offset, (family, render, rule) in enumerate(FAMILIES):
        rng = random.Random(f"{SEED}/{family}")
        plan = [("train", style) for style in range(STYLES)]
        plan += [("test", (offset + step) % STYLES) for step in (0, 1, 3)]
        rng.shuffle(plan)
        seen = set()
        for number, (split, style) in enumerate(plan, 1):
            expected, text = render(rng, style)
            while expected in seen:
                expected, text = render(rng, style)
            seen.add(expected)
            task = Task(f"{family}-{number:02}", family, split, f"{rule}: {text}", expected)
            tasks[task.id] = task
    return tasks


# --------------------------------------------------------------------------------------------------------- worker

# Passed to the interpreter with -c, so that not even the path of this file reaches the agent's arguments. It keeps the
# socket to itself and gives the agent /dev/null and a bounded buffer, so that printing cannot disturb the protocol.
WORKER = r'''
import io, json, os, queue, random, signal, sys, threading, types

MAX_OUTPUT, MAX_ANSWER = 4000, 10000

requests = os.fdopen(os.dup(0), "r", encoding="utf-8")
replies = os.fdopen(os.dup(0), "w", encoding="utf-8")
null = os.open(os.devnull, os.O_RDWR)
for standard in (0, 1, 2):
    os.dup2(null, standard)
inbox = queue.Queue()

def listen():
    for line in requests:
        inbox.put(json.loads(line))
    try:
        os.killpg(os.getpid(), signal.SIGKILL)  # The runner is gone: leave, with everything the agent started.
    finally:
        os._exit(1)  # Behind a fence that is enough.

def reply(**message):
    replies.write(json.dumps(message) + "\n")
    replies.flush()

class Output(io.TextIOBase):
    def __init__(self):
        self.kept, self.room = [], MAX_OUTPUT

    def writable(self):
        return True

    def write(self, text):
        if self.room > 0:
            self.kept.append(text[:self.room])
            self.room -= len(text)
        return len(text)

def describe(error):
    try:
        text = str(error.msg if isinstance(error, SyntaxError) else error)
    except BaseException:
        text = "(its message cannot be shown)"
    line, step = None, error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_filename == path:
            line = step.tb_lineno
        step = step.tb_next
    if isinstance(error, SyntaxError) and error.filename == path:
        line = error.lineno
    where = " (%s, line %s)" % (os.path.basename(path), line) if line else ""
    return ": ".join(filter(None, [type(error).__name__, " ".join(text.split())[:300]])) + where

def load():
    sys.pycache_prefix = os.devnull  # Only source counts: a stray .pyc must not have made the score.
    sys.path.append(os.path.dirname(path))
    module = types.ModuleType("agent")
    module.__file__ = path
    sys.modules["agent"] = module
    with open(path, "rb") as file:
        exec(compile(file.read(), path, "exec"), module.__dict__)
    if not callable(getattr(module, "HarnessAgent", None)):
        raise ImportError("the agent file does not define the class HarnessAgent")
    return module.HarnessAgent

def answer(instruction):
    given = agent_class().solve(instruction)
    if not isinstance(given, str):
        raise TypeError("solve() returned %s instead of a string" % type(given).__name__)
    if len(given) > MAX_ANSWER:
        raise ValueError("solve() returned %d characters; at most %d are read" % (len(given), MAX_ANSWER))
    return str(given)

reply(up=True)  # Until here none of the agent's code has run.
threading.Thread(target=listen, daemon=True).start()
first = inbox.get()
path, limit = first["agent"], first["limit"]
sys.stdout = sys.stderr = Output()
try:
    agent_class = load()
except BaseException as error:
    reply(error=describe(error))
else:
    reply(ready=True)
    while True:
        trial = inbox.get()
        random.seed(trial["seed"])
        sys.stdout = sys.stderr = output = Output()
        # The runner ends a worker that takes too long; this ends it should the runner be gone and the agent be
        # somewhere that lets no Python thread run, such as a runaway regular expression.
        signal.setitimer(signal.ITIMER_REAL, limit + 5)
        try:
            result = {"answer": answer(trial["instruction"])}
        except BaseException as error:
            result = {"error": describe(error)}
        signal.setitimer(signal.ITIMER_REAL, 0)
        reply(output="".join(output.kept), **result)
'''

# The agent gets a usable environment and none of the caller's variables beyond that.
WORKER_VARIABLES = ("PATH", "LANG", "LC_ALL", "TMPDIR", "TZ", "LD_LIBRARY_PATH")
MAX_REPLY = 1 << 20
# Starting the interpreter and importing the agent is not part of a trial, but must end as well.
START_LIMIT_S = 60.0
LOAD_LIMIT_S = 10.0


class WorkerTimeout(Exception):
    """The worker did not answer in time."""


class WorkerFailed(Exception):
    """The worker answered with an error, with nonsense, or not at all; says which in one line."""


def fenced(fence, agent_path, python):
    """The command of a worker: the fence's words, where there is one, what the worker may read, and the interpreter."""
    if not fence:
        return python
    places = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix, os.path.dirname(os.__file__)}
    # A directory that holds this program would hold the answers.
    here = os.path.dirname(os.path.abspath(__file__)) + os.sep
    places = {place for place in places if not here.startswith(place.rstrip(os.sep) + os.sep)}
    places.add(os.path.dirname(agent_path))
    return [*fence, *(word for place in sorted(places) for word in ("--read", place)), "--", *python]


class Worker:
    """A child process with the agent loaded. Leads a process group of its own, so that all of it can be ended."""

    alive = set()

    def __init__(self, fence, agent_path, limit):
        environment = {name: os.environ[name] for name in WORKER_VARIABLES if name in os.environ}
        self.limit = limit
        self.received = b""
        python = [sys.executable, "-I", "-B", "-c", WORKER]
        self.socket, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                fenced(fence, agent_path, python),
                stdin=theirs,
                stdout=subprocess.DEVNULL,
                cwd=os.path.dirname(agent_path),
                env=environment,
                start_new_session=True,
            )
        Worker.alive.add(self)
        try:
            try:
                self.hear(time.monotonic() + START_LIMIT_S)
            except (WorkerFailed, WorkerTimeout):
                raise OSError("it ended before it ran anything; the log says why") from None
            self.ask({"agent": agent_path, "limit": limit}, max(limit, LOAD_LIMIT_S))
        except BaseException:
            self.close()
            raise

    def ask(self, message, limit):
        """Sends one message and returns the reply."""
        deadline = time.monotonic() + limit
        self.socket.settimeout(limit)
        try:
            self.socket.sendall(json.dumps(message).encode() + b"\n")
        except socket.timeout:
            raise WorkerTimeout from None
        except OSError:
            raise WorkerFailed(self.ending()) from None
        reply = self.hear(deadline)
        if message.get("agent") and "error" in reply:
            raise WorkerFailed(reply["error"])
        return reply

    def hear(self, deadline):
        """The next message that arrives before the deadline."""
        while b"\n" not in self.received:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise WorkerTimeout
            self.socket.settimeout(remaining)
            try:
                chunk = self.socket.recv(1 << 16)
            except socket.timeout:
                continue
            except OSError:
                chunk = b""
            if not chunk:
                raise WorkerFailed(self.ending())
            self.received += chunk
            if len(self.received) > MAX_REPLY:
                raise WorkerFailed("the agent's process sent more than a reply")
        line, _, self.received = self.received.partition(b"\n")
        try:
            reply = json.loads(line)
        except (ValueError, RecursionError):
            reply = None
        if not isinstance(reply, dict):
            raise WorkerFailed("the agent's process sent something that is not a reply")
        return reply

    def ending(self):
        """How the process ended, in words."""
        try:
            self.process.wait(1)  # The fence says how the agent ended a moment after its socket is closed.
        except subprocess.TimeoutExpired:
            pass
        self.close()
        status = self.process.returncode
        status = 128 - status if status > 128 else status
        return "the agent ended its process " + (f"(exit status {status})" if status >= 0 else f"(signal {-status})")

    def kill(self):
        """Ends the whole process group. Safe to call from a signal handler, and twice."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except OSError:
            pass  # Nothing is left of it.

    def close(self):
        """Ends the process group and collects the worker."""
        if self in Worker.alive:
            self.kill()
            Worker.alive.discard(self)  # Before wait(), after which the number may belong to somebody else.
            self.process.wait()
            self.socket.close()


# --------------------------------------------------------------------------------------------------------- runner

MAX_ERROR = 500
stdout_lock = threading.Lock()


def emit(event, **fields):
    """Writes one event. Straight to the descriptor, so that nothing is left in a buffer when the reader goes away."""
    line = json.dumps({"event": event, **fields}).encode() + b"\n"
    with stdout_lock:
        while line:
            line = line[os.write(1, line):]


def sound(text):
    """The text without lone surrogates, which an agent can produce and JSON readers refuse."""
    return text.encode("utf-8", "replace").decode("utf-8")


class Run:
    """One `run` request: a queue of trials and the threads that work it off, each with a worker process."""

    def __init__(self, tasks, request):
        self.queue = collections.deque((task, number) for task in tasks for number in range(request["trials"]))
        self.agent_path = request["agent"]["path"]
        self.fence = request["fence"]
        self.limit = request["timeout_s"]
        self.seed = request["seed"]
        self.noise = request["noise"]
        with open(self.agent_path, "rb") as file:
            self.agent = file.read()
        self.keep_traces = request["keep_traces"]
        self.load_error = None
        self.failures = []
        threads = min(request["concurrency"], len(self.queue))
        self.threads = [threading.Thread(target=self.work, daemon=True) for _ in range(threads)]

    def is_spoilt(self, task, number):
        """Whether chance spoils the answer of this trial: the same for the same agent, drawn anew for any other."""
        drawn = hashlib.sha256(b"%d %s " % (self.seed + number, task.id.encode()) + self.agent).digest()
        return int.from_bytes(drawn[:8], "big") < self.noise * 2**64

    def finish(self):
        """Runs every trial; returns what broke the run off, if anything."""
        for thread in self.threads:
            thread.start()
        for thread in self.threads:
            thread.join()
        return self.failures

    def work(self):
        worker = None
        try:
            while self.queue:
                try:
                    task, number = self.queue.popleft()
                except IndexError:
                    break  # Another thread took the last one.
                emit("started", task=task.id, trial=number)
                worker = self.trial(worker, task, number)
        except Exception as failure:
            self.failures.append(failure)
            self.queue.clear()
        finally:
            if worker:
                worker.close()

    def trial(self, worker, task, number):
        """Runs one trial and returns the worker for the next one, if it is still of use."""
        answer, output, outcome, reward, error, spoilt = None, "", "agent_error", 0.0, None, False
        start = time.monotonic()
        try:
            if worker is None and self.load_error is None:
                worker = self.start()
            start = time.monotonic()
            if worker is None:
                error = self.load_error
            else:
                reply = worker.ask({"instruction": task.instruction, "seed": self.seed + number}, self.limit)
                answer, error, output = reply.get("answer"), reply.get("error"), str(reply.get("output"))
                if not isinstance(answer, str):
                    answer, error = None, str(error)
        except WorkerTimeout:
            outcome, error = "agent_timeout", f"no answer within {self.limit:g} s"
            worker.close()
            worker = None
        except WorkerFailed as failure:
            error = str(failure)
            worker.close()
            worker = None
        except OSError as failure:
            outcome, reward, error = "infra_error", None, f"could not start a worker process: {failure}"
        if answer is not None:
            spoilt = self.is_spoilt(task, number)
            reward = 1.0 if answer.strip() == task.expected and not spoilt else 0.0
            outcome = "passed" if reward else "failed"
        # Whatever is asked for, nothing of a hold-out conversation leaves this program, and an error message could
        # quote it. A file that does not even load has not been sent any instruction yet.
        shown = self.keep_traces and task.split == "train"
        event = {"reward": reward, "outcome": outcome, "seconds": round(time.monotonic() - start, 6)}
        if error and outcome == "agent_error" and not shown and error != self.load_error:
            error = "the agent failed; a train task that fails alike says why"
        if error:
            event["error"] = sound(error)[:MAX_ERROR]
        if shown:
            said = [] if answer is None else [{"role": "assistant", "content": sound(answer)}]
            event["trace"] = {
                "messages": [{"role": "user", "content": task.instruction}] + said,
                "family": task.family,
                "expected": task.expected,
                "agent_output": sound(output),
            }
            event["detail"] = {
                "family": task.family,
                "expected": task.expected,
                "answer": None if answer is None else sound(answer),
                **({"spoilt": "by chance, as the key noise asks for"} if spoilt else {}),
            }
        emit("trial", task=task.id, trial=number, **event)
        return worker

    def start(self):
        """A fresh worker, or None when the agent file cannot be loaded: then no further one is tried."""
        try:
            return Worker(self.fence, self.agent_path, self.limit)
        except WorkerTimeout:
            self.load_error = f"the agent file did not finish loading within {max(self.limit, LOAD_LIMIT_S):g} s"
        except WorkerFailed as failure:
            self.load_error = f"the agent file cannot be loaded: {failure}"
        return None


def stop(number, _frame):
    """Signal handler: leaves at once and takes every worker along."""
    for worker in list(Worker.alive):
        worker.kill()
    os._exit(128 + number)


# ----------------------------------------------------------------------------------------------------------- main


def checked(asked):
    """The request with defaults filled in."""
    result = request.checked(asked, concurrency=1, seed=0, timeout_s=10.0)

    def share(value):
        return isinstance(value, (int, float)) and 0 <= value <= 1

    result["noise"] = request.field(result["options"], "noise", 0.0, share, "a number from 0 to 1")
    if result["action"] == "run":
        result["agent"] = {"path": os.path.abspath(result["agent"]["path"])}
    return result


def select_tasks(tasks, wanted):
    """The tasks that are asked for: those named, each once and in that order, or else those of the split."""
    if wanted["tasks"] is None:
        return [task for task in tasks.values() if wanted["split"] in (None, task.split)]
    unknown = [name for name in wanted["tasks"] if name not in tasks]
    if unknown:
        shown = ", ".join(json.dumps(name) for name in unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        raise request.RequestError(f"unknown task {shown}; the ids go from {min(tasks)} to {max(tasks)}")
    return [tasks[name] for name in dict.fromkeys(wanted["tasks"])]


def main():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    try:
        wanted = checked(request.read())
        tasks = select_tasks(build_tasks(), wanted)
    except request.RequestError as error:
        print(f"demo benchmark: {error}", file=sys.stderr)
        return 2
    unknown = sorted(set(wanted["options"]) - {"noise"})
    if unknown:
        emit("log", level="warning", message=f"the demo benchmark has no option {', '.join(unknown)}; it is ignored")
    if wanted["action"] == "list":
        for task in tasks:
            emit("task", task=task.id, split=task.split)
        return 0
    failures = Run(tasks, wanted).finish()
    for failure in failures:
        print(f"demo benchmark: the run broke off: {type(failure).__name__}: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
