"""The agent under test: bench.py imports `solve` and scores its answers. Edit freely, keep the name."""


def solve(question):
    """Answers one question with a string."""
    words = question.split()
    if "plus" in words:
        return str(int(words[0]) + int(words[2]))
    return "I do not know"
