"""Harbor with the agent in a process of its own, behind a fence."""
