"""Whether a text of SQL only asks, as far as its words tell.

The benchmark runs a submission and then the gold SQL on one connection to one copy, and compares what they return: where a
task is a question, a submission that changes what is there decides what is right. And its check that `/execute` gets questions
looks at the first word alone. Functions that the database itself holds may still write; a session in which nobody may write is
not ours to open.
"""

import re

# As PostgreSQL reads it: a comment ends at either end of line, a word may hold dollars and anything beyond ASCII.
TOKEN = re.compile(
    r"""(?P<nothing>[ \t\n\r\f\v]+|--[^\n\r]*)
      | (?P<comment>/\*)
      | (?P<text>[eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*')
      | (?P<spelt>[uU]&"(?:[^"]|"")*")
      | "(?P<name>(?:[^"]|"")*)"
      | \$(?P<tag>(?:[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*)?)\$
      | (?P<word>[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*)
      | (?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
COMMENT = re.compile(r"/\*|\*/")
# A name that is spelt in numbers of characters could be any.
SPELT = 'U&"'
ASKING = {"SELECT", "WITH", "VALUES", "TABLE"}
# What makes later statements of the session read something else, or reaches beyond it.
MEDDLING = re.compile(r"set_config|lo_\w+|dblink\w*|pg_(terminate_backend|cancel_backend|reload_conf|read_\w+|ls_\w+)", re.IGNORECASE)


def _after_comment(text, position):
    """Comments nest. The end of the text when one does not end."""
    depth = 1
    while depth:
        mark = COMMENT.search(text, position)
        if mark is None:
            return len(text)
        depth += 1 if mark.group() == "/*" else -1
        position = mark.end()
    return position


def tokens(text):
    """Words in capitals, quoted names as `"name"`, single characters; literals and comments left out (`'` for a literal)."""
    position = 0
    while position < len(text):
        found = TOKEN.match(text, position)
        position = found.end()
        if found.lastgroup == "comment":
            position = _after_comment(text, position)
        elif found.lastgroup == "tag":
            end = text.find(found.group(), position)
            position = len(text) if end < 0 else end + len(found.group())
            yield "'"
        elif found.lastgroup == "text":
            yield "'"
        elif found.lastgroup == "name":
            yield f'"{found["name"]}"'
        elif found.lastgroup == "spelt":
            yield SPELT
        elif found.lastgroup == "word":
            yield found["word"].upper()
        elif found.lastgroup == "other":
            yield found["other"]


def statements(text):
    """The tokens of each statement that is not empty."""
    statement = []
    for token in [*tokens(text), ";"]:
        if token != ";":
            statement.append(token)
        elif statement:
            yield statement
            statement = []


def _explained(statement):
    """The statement behind EXPLAIN and its options."""
    rest = statement[1:]
    if rest[:1] == ["("]:
        end = rest.index(")") if ")" in rest else len(rest)
        return rest[end + 1 :]
    while rest[:1] in (["ANALYZE"], ["ANALYSE"], ["VERBOSE"]):
        rest = rest[1:]
    return rest


def _is_word(token):
    return token[:1].isalpha() or token[:1] in '_"'


def _asks(statement):
    if statement[0] == "EXPLAIN":
        statement = _explained(statement)
    first = next((token for token in statement if token != "("), None)
    if first not in ASKING:
        return False
    padded = ["", *statement, "", ""]
    for before, token, after in zip(padded, padded[1:], padded[2:]):
        if token in ("INTO", SPELT):  # Reserved: of SELECT INTO, INSERT INTO or MERGE INTO, and never a name.
            return False
        # The statement in or behind a WITH. Elsewhere these may be names, and FOR UPDATE only locks.
        if before in ("(", ")") and (token == "DELETE" and after == "FROM" or token == "UPDATE" and _is_word(after)):
            return False
        if _is_word(token) and after == "(" and MEDDLING.fullmatch(token.strip('"')):
            return False
    return True


def only_asks(text):
    """Whether every statement of it is a question, and changes nothing on the way."""
    return all(_asks(statement) for statement in statements(text))
