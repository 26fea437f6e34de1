"""A complete benchmark: questions, right answers, and how the agent is asked. autoharness_bench.py does the rest."""

from autoharness_bench import serve

TASKS = {
    "sum": {"split": "train", "question": "17 plus 25", "answer": "42"},
    "product": {"split": "train", "question": "6 times 7", "answer": "42"},
    "reverse": {"split": "train", "question": "reverse the word stressed", "answer": "desserts"},
    "count": {"split": "train", "question": "count the letters of harness", "answer": "7"},
    "sum-large": {"split": "test", "question": "1200 plus 34", "answer": "1234"},
    "product-large": {"split": "test", "question": "12 times 12", "answer": "144"},
    "reverse-short": {"split": "test", "question": "reverse the word loop", "answer": "pool"},
}


def run_agent(agent, question):
    """Runs in the agent's process, which has the question and nothing else of this file."""
    return agent.solve(question)


if __name__ == "__main__":
    serve(TASKS, run_agent)
