class ApiRateLimitError(Exception):
    """Stands for all of Harbor's."""
