"""Everything that is said between the processes of a run passes here, and what counts is written down here.

The agent's process must not be believed about its own reward, and must not reach what it has no business with: loading a
task of its own making into the database service, ending one, reading the user simulator's state. So it is given the ports
of this proxy, which forwards what a stock agent needs and refuses the rest. The orchestrator talks through it as well:
its own report of a failure is one vague sentence, while the service's answer, seen here, says what happened.

What a service makes of a request of the agent is no failure of the service: an agent can send what no service can take, and
have its own copy of a database refuse to be renewed. Such signs are suspicions, which the run looks into (run.py).
"""

import asyncio
import json
import time

import local_http
import sql
from guard import FAILED_HEADER
from local_http import Refused

COSTS = {
    "/execute": 1.0,
    "/schema": 1.0,
    "/all_column_meanings": 1.0,
    "/column_meaning": 0.5,
    "/knowledge_names": 0.5,
    "/knowledge": 1.0,
    "/ask": 2.0,
    "/submit": 3.0,
}
ONE_KNOWLEDGE_COST = 0.5
FROM_AGENT = {"db": set(COSTS) - {"/ask"}, "user": {"/ask", "/phase_transition"}}
# What the orchestrator does through each service.
FROM_ORCHESTRATOR = {
    "agent": {"/init_session", "/run_session"},
    "user": {"/init_task", "/phase_transition"},
    "db": {"/init_task", "/schema", "/knowledge", "/submit", "/cleanup_task"},
}
# In c-interact a phase has one submission and one more after the error was shown.
GUESSES = 2
# The stock tool gives up on the user simulator after 60 s. An agent that gives up sooner has itself to blame.
SLOW_ANSWER_S = 55.0
# Of a request of the agent. The longest gold SQL has a few thousand characters.
LARGEST_REQUEST = 256 * 1024
LONGEST_QUESTION = 20_000
# What the service itself answers to what is not a question.
ONLY_QUESTIONS = {"result": "", "success": False, "error": "Only SELECT queries allowed in execute_sql"}
# In the place of a submission that would change what it is compared with: the service counts it, and says this of it.
NOT_A_QUESTION = "DO $$ BEGIN RAISE EXCEPTION 'this task asks for a query; what changes the database is not evaluated'; END $$"
# How the user simulator's model refuses a question for what is in it.
REFUSED_QUESTION = (
    "litellm.BadRequestError",
    "litellm.ContextWindowExceededError",
    "litellm.ContentPolicyViolationError",
    "litellm.UnprocessableEntityError",
    "'utf-8' codec can't encode",
)


class Record:
    """What happened to one trial, as seen from outside of the agent's process."""

    def __init__(self, alias, mode, budget, follow_up, questions):
        self.alias, self.mode, self.budget, self.follow_up = alias, mode, budget, follow_up
        self.questions = questions  # The phases whose task is one.
        self.task = None
        self.phase = 1
        self.passes = {}  # phase: reward of its first pass
        self.submissions = {1: 0, 2: 0}
        self.all_passes = []
        self.asked = 0
        self.spent = 0.0
        self.refused = []
        self.infrastructure = []
        self.bypasses = []  # What was asked of a service behind our back, in this trial's name.
        self.suspicions = []  # Signs of a failure that the agent could have brought about; checked before they count.
        self.spoiled = None  # What of the server's the agent's SQL has changed for others.
        self.broken_installation = None  # Why no model can be called, where that was tried.
        self.asking = 0  # Requests of the agent that are under way.
        self.sessions = []  # (path, status, answer) of the agent service
        self.agent_busy = False
        self.closed = False
        self.cleaned = False
        self.initialised = set()
        self.shard = None
        self.on_loaded = None
        self.lock = asyncio.Lock()

    @property
    def finished(self):
        return 2 in self.passes or (1 in self.passes and not self.follow_up)

    @property
    def reward(self):
        return round(float(sum(self.passes.values())), 6)

    def pay(self, path, request):
        """Takes the price of a call from the budget as the stock agent does, whatever the agent's own books say."""
        cost = COSTS.get(path, 0.0)
        if path == "/knowledge" and request.get("knowledge_name"):
            cost = ONE_KNOWLEDGE_COST
        self.spent += cost
        if self.mode != "a-interact":
            return
        if self.budget < cost:
            if path == "/submit" and self.budget >= 0:
                self.budget = -1.0
                return
            self.spent -= cost
            raise Refused(402, f"the budget is exhausted ({max(self.budget, 0):.1f} bird-coins left)")
        self.budget -= cost
        if path == "/submit" and self.budget <= 0:
            self.budget = -1.0


class Proxy:
    """Five doors: agent, user and db for orchestrators, user and db for the agent's process."""

    def __init__(self, services, log):
        self.services = services  # .port(kind, record) and .seal
        self.log = log
        self.records = {}
        self.busy = 0  # Requests that the database service is working on.
        self.servers = []
        self.user_answers = False  # Whether the user simulator's model has answered somebody.

    async def open(self, sockets):
        """Opens the doors: `sockets` maps (side, kind) to listening sockets."""
        for (side, kind), sock in sockets.items():
            handler = self._orchestrator(kind) if side == "orchestrator" else self._agent(kind)
            self.servers.append(await local_http.serve(sock, handler))

    def close(self):
        for server in self.servers:
            server.close()

    def add(self, record):
        self.records[record.alias] = record

    def _record(self, method, body):
        if method != "POST":
            raise Refused(403, "only POST is forwarded")
        try:
            request = json.loads(body)
        except (ValueError, RecursionError):
            raise Refused(400, "the body is not JSON") from None
        record = self.records.get(request.get("task_id")) if isinstance(request, dict) else None
        if record is None:
            raise Refused(404, "no such task is running")
        return request, record

    async def _send(self, kind, path, body, record, signs=None):
        """Forwards a request; returns status and body. The benchmark's own services are asked, and answer, with seals.

        `signs`: where a failure is noted; by default it is the benchmark's own.
        """
        signs = record.infrastructure if signs is None else signs
        seal = None if kind == "agent" else self.services.seal
        self.busy += kind == "db"
        try:
            status, answer, headers = await local_http.exchange(
                self.services.port(kind, record),
                "POST",
                path,
                body,
                seal=seal,
                largest=local_http.LARGEST_ANSWER if kind == "agent" else local_http.LARGEST_BODY,
            )
        except OSError as error:
            if kind != "agent":
                signs.append(f"the {kind} service is out of reach: {error}")
            raise Refused(502, f"the {kind} service is out of reach") from None
        finally:
            self.busy -= kind == "db"
        if seal and FAILED_HEADER in headers:
            reason = str(json.loads(headers[FAILED_HEADER]))
            # Where it answers others, it is what the agent wrote that it does not take.
            if not (self.user_answers and reason.startswith(REFUSED_QUESTION)):
                record.infrastructure.append(f"the user simulator's model failed: {reason}")
        elif path == "/ask" and status == 200:
            self.user_answers = True
        return status, answer

    def _orchestrator(self, kind):
        async def handle(method, path, body):
            if path == "/health":
                return 200, b'{"status": "healthy"}'
            request, record = self._record(method, body)
            if path not in FROM_ORCHESTRATOR[kind]:
                raise Refused(404, "not forwarded")
            if kind == "agent":
                return await self._session(path, body, record)
            if path == "/init_task":
                if kind in record.initialised:
                    raise Refused(409, "the task has been loaded already")
                record.initialised.add(kind)
                if record.on_loaded:
                    record.on_loaded()
            if path == "/submit":
                return await self._submit(body, record, record.infrastructure)
            status, answer = await self._send(kind, path, body, record)
            if path == "/cleanup_task" and status == 200:
                record.cleaned = True
            elif status != 200 and path != "/cleanup_task":
                record.infrastructure.append(f"the {kind} service answered {status} to {path}: {text(answer)}")
            return status, answer

        return handle

    async def _session(self, path, body, record):
        record.agent_busy = True
        try:
            status, answer = await self._send("agent", path, body, record)
        except Refused as refusal:
            record.sessions.append((path, refusal.status, None))
            raise
        finally:
            record.agent_busy = False
        try:
            record.sessions.append((path, status, json.loads(answer)))
        except (ValueError, RecursionError):
            record.sessions.append((path, status, None))
        return status, answer

    def _agent(self, kind):
        async def handle(method, path, body):
            if path == "/health":
                return 200, b'{"status": "healthy"}'
            request, record = self._record(method, body)
            if path not in FROM_AGENT[kind]:
                record.refused.append(path)
                self.log(f"refused a request of the agent to {path}", record)
                raise Refused(403, f"{path} is not for the agent")
            if record.closed:
                raise Refused(410, "this task is over")
            require_plain(request, body)
            record.asking += 1
            try:
                return await forward(path, request, body, record)
            finally:
                record.asking -= 1

        async def forward(path, request, body, record):
            # One at a time, in order: two submissions at once would reset each other's database.
            async with record.lock:
                if path == "/phase_transition":
                    if 1 not in record.passes:
                        record.refused.append(path)
                        raise Refused(403, "phase 1 has not been passed")
                    return await self._send(kind, path, body, record, record.suspicions)
                if path == "/submit":
                    return await self._agent_submit(request, body, record)
                record.pay(path, request)
                if path == "/execute" and not sql.only_asks(str(request.get("sql") or "")):
                    return 200, json.dumps(ONLY_QUESTIONS).encode()
                if path == "/ask":
                    return await self._ask(body, record)
                status, answer = await self._send(kind, path, body, record, record.suspicions)
                self._look(path, status, answer, record)
                return status, answer

        return handle

    async def _agent_submit(self, request, body, record):
        if record.finished:
            return refusal("The task is finished; nothing more is evaluated.")
        if record.mode == "c-interact" and record.submissions[record.phase] >= GUESSES:
            return refusal("No submission is left in this phase.")
        try:
            record.pay("/submit", request)
        except Refused as refused:
            return refusal(f"Not evaluated: {refused.detail}.")
        if record.phase in record.questions and not sql.only_asks(str(request.get("sql") or "")):
            body = json.dumps({**request, "sql": NOT_A_QUESTION}).encode()
        # What the first phase left behind may have decided what is right in the second.
        doubtful = record.phase == 2 and 2 in record.questions and 1 not in record.questions
        return await self._submit(body, record, record.suspicions, request["sql"] if doubtful else None)

    async def _submit(self, body, record, signs, doubtful=None):
        """`doubtful`: SQL whose pass is looked at a second time before it counts."""
        record.submissions[record.phase] += 1
        status, answer = await self._send("db", "/submit", body, record, signs)
        try:
            reply = json.loads(answer)
        except ValueError:
            reply = None
        if status != 200 or not isinstance(reply, dict):
            # Other statuses tell of a request in the wrong form, for which the agent has itself to thank.
            if not 400 <= status < 500:
                signs.append(f"the db service answered {status} to /submit: {text(answer)}")
            return status, answer
        message = str(reply.get("message", ""))
        if reply.get("passed"):
            phase, reward = reply.get("phase_completed"), reply.get("reward")
            if phase == 2 and doubtful is not None:
                await self.services.second_look(record, doubtful)
            record.all_passes.append((phase, reward))
            if phase in (1, 2):
                record.passes.setdefault(phase, reward)
            if phase == 1 and record.follow_up:
                record.phase = 2
        elif message.startswith("Error: "):
            signs.append(f"a submission could not be evaluated: {message[:300]}")
        elif lost(message):
            record.suspicions.append(message)
        return status, answer

    async def _ask(self, body, record):
        record.asked += 1
        start, before = time.monotonic(), len(record.infrastructure)
        status, answer = await self._send("user", "/ask", body, record, record.suspicions)
        if status >= 500:
            record.suspicions.append(f"the user service answered {status} to /ask: {text(answer)}")
        elif len(record.infrastructure) == before and time.monotonic() - start > SLOW_ANSWER_S:
            record.infrastructure.append("the user simulator took longer than the agent's tool waits")
        return status, answer

    def _look(self, path, status, answer, record):
        """Notes what in an answer of the database service tells of a failure that is not the agent's."""
        if status >= 500:
            record.suspicions.append(f"the db service answered {status} to {path}: {text(answer)}")
        elif path == "/execute" and status == 200:
            try:
                error = str(json.loads(answer).get("error") or "")
            except (ValueError, AttributeError):
                return
            if lost(error):
                record.suspicions.append(error)


def require_plain(request, body):
    """Refuses what the services cannot take: a lone surrogate is in no text that a database or a model understands."""
    if len(body) > LARGEST_REQUEST:
        raise Refused(413, f"a request may have {LARGEST_REQUEST} bytes")
    try:
        plain = json.dumps(request, ensure_ascii=False)
        plain.encode()
    except (ValueError, RecursionError):
        raise Refused(400, "the request holds a lone surrogate, or is no plain JSON") from None
    if len(str(request.get("question") or "")) > LONGEST_QUESTION:
        raise Refused(413, f"a question may have {LONGEST_QUESTION} characters")


def refusal(message):
    """What the agent's submit tool understands: a submission that did not pass."""
    return 200, json.dumps(
        {
            "passed": False,
            "message": message,
            "reward": 0.0,
            "phase_completed": None,
            "has_follow_up": False,
            "follow_up_query": None,
        }
    ).encode()


def lost(message):
    """Whether a message tells of a lost connection to PostgreSQL rather than of bad SQL."""
    signs = (
        "server closed the connection",
        "connection to server",
        "terminating connection",
        "could not connect",
        "connection already closed",
        "connection refused",
        "the database system is",
        "connection has been closed",
    )
    message = message.lower()
    return any(sign in message for sign in signs)


def text(answer):
    return " ".join(answer[:400].decode("utf-8", "replace").split())
