"""What the calls of a model tell about a trial. Pure: the door (door.py) writes calls down, this says what follows.

An agent's process can say whatever it likes about its model, raise what it likes, and call whom it likes. Only a call that
the door itself carried to the configured model, and that the provider itself refused, broke or never answered, is somebody
else's failure. Everything else is the agent's.
"""

import collections
import json
import re
import zlib

# Statuses with which a provider says that it cannot, for now.
OVERLOADED = {408, 409, 425, 429}
# Statuses with which it says that it will not, for anybody with this key, credit or model.
REFUSING = {401, 402, 403, 404}
# Longer than any honest wait for an answer; of a trial with a short limit, half of that.
HUNG_S = 300.0
# How long before the end of a trial its last sign of trouble may lie. A provider may ask for a longer wait.
QUIET_S = 120.0
# More calls at a time than any agent needs. What a flood is answered with is the flood's doing.
FLOOD = 8
MOST_CALLS = 100_000
LARGEST_COUNT = 1 << 53

# Where providers are found when no variable says where; for others see `Model.knows`.
PUBLIC = {
    "anthropic": ("api.anthropic.com",),
    "azure": (".openai.azure.com", ".cognitiveservices.azure.com"),
    "azure_ai": (".azure.com",),
    "bedrock": (".amazonaws.com",),
    "cerebras": ("api.cerebras.ai",),
    "cohere": ("api.cohere.ai", "api.cohere.com"),
    "databricks": (".databricks.com",),
    "deepseek": ("api.deepseek.com",),
    "fireworks_ai": ("api.fireworks.ai",),
    "gemini": ("generativelanguage.googleapis.com",),
    "groq": ("api.groq.com",),
    "mistral": ("api.mistral.ai",),
    "openai": ("api.openai.com",),
    "openrouter": ("openrouter.ai",),
    "together_ai": ("api.together.xyz",),
    "vertex_ai": (".googleapis.com",),
    "xai": ("api.x.ai",),
}
FAMILIES = (("claude", "anthropic"), ("gemini", "gemini"), ("gpt-", "openai"), ("chatgpt", "openai"), ("codex", "openai"))
# Whose clients ask more than the model: a machine's role or an account's token, and by other ways than the door knows.
OTHER_WAYS = ("bedrock", "bedrock_converse", "sagemaker", "sagemaker_chat", "vertex_ai", "vertex_ai_beta")
USUAL_PORTS = (443, 80)
BASES = ("_API_BASE", "_BASE_URL", "_API_URL", "_ENDPOINT", "_API_ENDPOINT")

Trouble = collections.namedtuple("Trouble", "reason fatal")


class Call:
    """One call of a model, as the door saw it. Times are those of a steady clock, in seconds."""

    def __init__(self, start, counts, flood=False):
        self.start = self.heard = start  # When the provider was last heard of.
        self.counts, self.flood = counts, flood
        self.end = None  # None: still under way.
        self.failure = None  # Why it is the provider's failure.
        self.refused = None  # Why the provider takes no call of ours.
        self.abandoned = False  # The agent's process did not wait for the answer.
        self.retry_after = 0.0
        self.tokens = None

    def waited(self, now):
        """How long nothing has come."""
        return (self.end if self.end is not None else now) - self.heard

    @property
    def succeeded(self):
        return self.end is not None and not (self.failure or self.refused or self.abandoned)


class Calls:
    """The calls of one agent's process, oldest first."""

    def __init__(self):
        self.all = []

    def begin(self, now, counts):
        under_way = sum(call.end is None for call in self.all)
        call = Call(now, counts, flood=under_way >= FLOOD)
        if len(self.all) < MOST_CALLS:
            self.all.append(call)
        return call

    def tokens(self):
        """What the answers of the provider add up to; None when no answer said."""
        counted = [call.tokens for call in self.all if call.tokens]
        if not counted:
            return None
        return {"tokens_in": sum(one[0] for one in counted), "tokens_out": sum(one[1] for one in counted)}

    def _tail(self):
        """The calls that count since the last one that went well, newest first."""
        tail = []
        for call in sorted((call for call in self.all if call.counts and not call.flood), key=lambda one: one.start, reverse=True):
            if call.succeeded:
                break
            tail.append(call)
        return tail

    def trouble(self, now, limit, ran_out):
        """What the provider is to blame for, None where nothing is. `ran_out`: the time limit ended the trial."""
        tail = self._tail()
        if not tail:
            return None
        failed = [call for call in tail if call.end is not None and (call.failure or call.refused)]
        hung = min(HUNG_S, limit / 2)
        waited = sum(call.waited(now) for call in tail if call.end is None or call.abandoned)
        last = max(call.end if call.end is not None else now for call in tail)
        patience = max([min(QUIET_S, limit / 4), *(call.retry_after for call in tail)])
        if ran_out and now - last > patience:
            return None  # The agent did something else with its time since.
        if waited >= hung:
            return Trouble(f"no answer for {waited:.0f} s", False)
        if failed:
            newest = failed[0]
            return Trouble(newest.failure or newest.refused, bool(newest.refused))
        return None


class Model:
    """The configured model: which calls are calls of it."""

    def __init__(self, name, environment, secrets=()):
        self.name = name or ""
        self.provider, _, rest = self.name.partition("/")
        if not rest:
            self.provider, rest = next((provider for word, provider in FAMILIES if word in self.name), ""), self.name
            if not self.provider and re.match(r"o[0-9]", self.name):
                self.provider = "openai"
        self.words = {rest, rest.rpartition("/")[2]} - {""}
        self.secrets = [secret for secret in secrets if len(secret) >= 4]
        stem = self.provider.upper()
        named = [environment.get("LITELLM_API_BASE")]
        named += [environment.get(stem + ending) for ending in BASES] if stem else []
        self.hosts = {authority(base) for base in named if base and "://" in base}
        if self.provider in ("ollama", "ollama_chat") and not self.hosts:
            self.hosts = {"localhost:11434", "127.0.0.1:11434"}
        self.answering = set()  # Hosts of unknown providers that have answered as the model.

    def knows(self, url):
        """Whether a URL (an object with `host` and `port`) is where the configured model lives."""
        host = url.host.lower()
        if self.hosts:
            return f"{host}:{port_of(url)}" in self.hosts
        public = PUBLIC.get(self.provider)
        if public:
            return any(host == name or (name[0] == "." and host.endswith(name)) for name in public)
        return host in self.answering

    def reached_at(self, configured):
        """The hosts, as `model_hosts` names them, that agents may reach through the door and no others: those that are `configured`,
        else where the model lives. None where that is not known, and agents have the network themselves."""
        if configured or self.provider in OTHER_WAYS:
            return configured or None
        named = [f"[{host}]:{port}" if ":" in host else place for place in self.hosts for host, _, port in [place.rpartition(":")]]
        return sorted(named) or list(PUBLIC.get(self.provider, ())) or None

    def asked(self, url, body):
        """Whether a request is about the configured model."""
        if not self.words:
            return True
        try:
            named = json.loads(body).get("model") if body else None
        except (ValueError, AttributeError, RecursionError):
            named = None
        if isinstance(named, str):
            return named in self.words or named.rpartition("/")[2] in self.words
        return any(word in url.path for word in self.words)

    def holds_key(self, url, headers):
        """Whether a request carries a key of ours; where there is none to carry, it cannot be the wrong one."""
        text = str(url) + " ".join(headers.values())
        return not self.secrets or any(secret in text for secret in self.secrets)


def lets_through(names, url):
    """Whether a URL (an object with `host` and `port`) is at one of these hosts; None lets everything through."""
    if names is None:
        return True
    host, port = url.host.lower().rstrip("."), port_of(url)
    for name in names:
        name, wanted = split_host(name.lower())
        if (port == wanted if wanted else port in USUAL_PORTS) and (host == name or (name[0] == "." and host.endswith(name))):
            return True
    return False


def split_host(name):
    """`host:port` or `[address]:port` as both; the port is None where there is none."""
    if name.startswith("["):
        host, _, port = name[1:].partition("]")
        return host, int(port[1:]) if port else None
    host, colon, port = name.partition(":")
    return (name, None) if not colon or ":" in port else (host, int(port))


def authority(base):
    from urllib.parse import urlsplit

    parts = urlsplit(base)
    return f"{(parts.hostname or '').lower()}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def port_of(url):
    return url.port or (443 if url.scheme == "https" else 80)


def keys_of(environment, endings):
    """The secrets that a call may carry."""
    named = {name: value for name, value in environment.items() if name.endswith((*endings, "_ACCESS_KEY_ID"))}
    return [value for value in named.values() if value and not value.startswith("/")]


def status_failure(status):
    """Why a status is the provider's failure, or None."""
    return f"its provider answered {status}" if status in OVERLOADED or status >= 500 else None


def retry_after(headers):
    try:
        return min(max(float(headers.get("retry-after") or 0), 0.0), 3600.0)
    except ValueError:
        return 0.0


def unpacked(body, encoding):
    """The body as text was meant; None when it cannot be told."""
    if encoding in (None, "", "identity"):
        return body
    if encoding in ("gzip", "deflate"):
        try:
            return zlib.decompressobj(47 if encoding == "gzip" else 15).decompress(body, 256 << 20)
        except zlib.error:
            return None
    return None


def read_answer(body, kind):
    """Of the whole body of an answer with status 200: why it is no answer (or None), and its tokens (or None)."""
    if "event-stream" in kind or "amazon.eventstream" in kind:
        return None, stream_tokens(body)
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return "its provider answered 200 with something that is not JSON", None
    if not isinstance(answer, dict):
        return None, None  # Some stream as a list.
    if answer.get("error") and not answer.get("choices"):
        return "its provider answered 200 with an error in it", None
    if "choices" in answer and not answer["choices"]:
        return "its provider answered 200 without a choice in it", None
    return None, usage_tokens(answer)


def usage_tokens(answer):
    """Tokens in and out, as the providers name them."""
    usage = answer.get("usage") or answer.get("usageMetadata")
    if not isinstance(usage, dict):
        return None

    def total(*names):
        counts = [usage.get(name) for name in names]
        return sum(one for one in counts if isinstance(one, int) and not isinstance(one, bool) and 0 <= one < LARGEST_COUNT)

    read = total("prompt_tokens", "input_tokens", "inputTokens", "promptTokenCount")
    read += total("cache_creation_input_tokens", "cache_read_input_tokens")
    return read, total("completion_tokens", "output_tokens", "outputTokens", "candidatesTokenCount", "thoughtsTokenCount")


def stream_tokens(body):
    """Tokens of an answer that came as events: each count is the largest that was named."""
    best = None
    for line in body.splitlines():
        if not line.startswith(b"data:") or b"sage" not in line:
            continue
        try:
            event = json.loads(line[5:])
        except (ValueError, RecursionError):
            continue
        if not isinstance(event, dict):
            continue
        for part in (event, event.get("message"), event.get("response")):
            found = usage_tokens(part) if isinstance(part, dict) else None
            if found:
                best = found if best is None else (max(best[0], found[0]), max(best[1], found[1]))
    return best
