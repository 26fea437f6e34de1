"""What came back over the wire: the status, the body and the wish to wait, of the last HTTP request of each thread.

litellm's exceptions are its own reading of what happened, and it wraps its stumbling over odd arguments in the same classes.
Whether a provider failed is read from here instead.
"""

import json
import threading
import time

# Without it a provider could make a trial wait forever.
LONGEST_WAIT_S = 600.0
# Where the providers' formats keep what the model said: OpenAI, Anthropic, Gemini, Cohere and Bedrock.
ANSWERS = ("choices", "content", "candidates", "message", "output", "promptFeedback")


class Wire(threading.local):
    """The last request of this thread. `status` is None before there was one, and "broken" when no whole reply came."""

    def __init__(self):
        super().__init__()
        self.forget()

    def forget(self):
        """Before an attempt."""
        self.status, self.wait, self.answered = None, None, None

    def watch(self, httpx):
        """Sees every synchronous request from now on, as its client sees it: decoded, and read to the end."""
        send, wire = httpx.Client.send, self

        def watched(client, request, **options):
            wire.status, wire.wait, wire.answered = "broken", None, None
            response = send(client, request, **options)
            wire.status = response.status_code
            wire.wait = asked_to_wait(response.headers, time.time())
            # Unknown while the body is still to be read.
            wire.answered = None if options.get("stream") else holds_answer(response.content)
            return response

        httpx.Client.send = watched


def holds_answer(body):
    """Whether a body is a model's answer, and not a page, a piece of one, or an error that came with status 200."""
    try:
        value = json.loads(body)
    except ValueError:
        return False
    if not isinstance(value, dict) or value.get("error") or value.get("type") == "error":
        return False
    if "choices" in value:
        choices = value["choices"]
        return isinstance(choices, list) and bool(choices) and all(map(_said, choices))
    return any(value.get(name) is not None for name in ANSWERS)


def _said(choice):
    return isinstance(choice, dict) and isinstance(choice.get("message"), dict) and not choice.get("error")


def asked_to_wait(headers, now):
    """Seconds that the provider asks to wait: Retry-After in seconds or as a date, or OpenAI's retry-after-ms."""
    try:
        seconds = float(headers["retry-after-ms"]) / 1000
    except (KeyError, ValueError):
        text = headers.get("retry-after") or ""
        try:
            seconds = float(text)
        except ValueError:
            import email.utils  # Here: hardly anybody sends a date, and every run would import it.

            try:
                seconds = email.utils.parsedate_to_datetime(text).timestamp() - now
            except (ValueError, TypeError):
                return None
    return min(seconds, LONGEST_WAIT_S) if seconds >= 0 else None
