"""What each process may know: secrets only where they are used."""

import os

SECRET_ENDINGS = ("_API_KEY", "_TOKEN", "_SECRET", "_KEY", "_PASSWORD", "_CREDENTIALS")
MODELS = ("AGENT_MODEL", "AGENT_REASONING_EFFORT", "SYSTEM_AGENT_MODEL", "USER_SIM_MODEL")
LOCAL = "localhost,127.0.0.1,::1"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


def without_secrets(environment):
    return {
        name: value
        for name, value in environment.items()
        if not (name.startswith("PG") or name.endswith(SECRET_ENDINGS))
    }


def without_proxies(environment):
    """For agents' processes: their calls go to the door on this machine, and a proxy's address may have a password in it."""
    return {name: value for name, value in environment.items() if name not in PROXIES}


def base(options, secret):
    """What every process of the benchmark has; with `secret` also the keys of the models."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "AUTOHARNESS_"))}
    environment.pop(options["pg"]["password_env"], None)
    if not secret:
        environment = without_secrets(environment)
    for name in MODELS:
        environment.pop(name, None)
    for name in ("NO_PROXY", "no_proxy"):
        environment[name] = ",".join(filter(None, [environment.get(name), LOCAL]))
    environment.update(
        PYTHONUNBUFFERED="1",
        PYTHONDONTWRITEBYTECODE="1",
        LITELLM_LOCAL_MODEL_COST_MAP="True",
        DISABLE_AIOHTTP_TRANSPORT="True",  # Of litellm; calls of models are turned to the door in httpx.
        DATASET=options["dataset"],
        PATIENCE=str(options["patience"]),
    )
    return environment


def for_user(options, agent, db_port):
    """The user simulator; it fetches the schema from the database service itself."""
    environment = {**base(options, secret=True), "DB_ENV_PORT": str(db_port)}
    model = agent.get("user_model") or agent.get("model")
    if model:
        environment["USER_SIM_MODEL"] = model
    return environment


def for_db(options, role, programs):
    """The database service, which logs in as `role` and finds `programs` before any others."""
    where = {"PG_HOST": role.host, "PG_PORT": str(role.port), "PG_USER": role.user, "PG_PASSWORD": role.password}
    about = base(options, secret=False)
    return {**about, **where, "PATH": os.pathsep.join(filter(None, [programs, about.get("PATH")]))}


def for_agent(options, agent, user_port, db_port):
    """The agent's process; its doors to the other services are the proxy's."""
    environment = {**base(options, secret=True), "USER_SIM_PORT": str(user_port), "DB_ENV_PORT": str(db_port)}
    if agent.get("model"):
        environment.update(AGENT_MODEL=agent["model"], SYSTEM_AGENT_MODEL=agent["model"])
    if agent.get("reasoning_effort"):
        environment["AGENT_REASONING_EFFORT"] = agent["reasoning_effort"]
    return without_proxies(environment)


def for_smoke(options, model, effort, port):
    """The agent's process when everybody else is pretended behind one port: no secret, and no way to anybody real."""
    base_url = f"http://127.0.0.1:{port}/v1"
    anthropic = model.startswith(("anthropic/", "claude"))
    named = f"http://127.0.0.1:{port}" if anthropic else base_url
    return {
        **without_proxies(base(options, secret=False)),
        **({"AGENT_REASONING_EFFORT": effort} if effort else {}),
        "AGENT_MODEL": model,
        "SYSTEM_AGENT_MODEL": model,
        "ANTHROPIC_API_BASE": f"http://127.0.0.1:{port}",
        "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{port}",
        "ANTHROPIC_API_KEY": "smoke",
        "OPENAI_API_BASE": base_url,
        "OPENAI_BASE_URL": base_url,
        "OPENAI_API_KEY": "smoke",
        "LITELLM_API_BASE": named,
        "LITELLM_API_KEY": "smoke",
        "DB_ENV_PORT": str(port),
        "USER_SIM_PORT": str(port),
    }


def for_orchestrator(options, agent_port, user_port, db_port):
    ports = {"SYSTEM_AGENT_PORT": agent_port, "USER_SIM_PORT": user_port, "DB_ENV_PORT": db_port}
    return {**base(options, secret=False), **{name: str(port) for name, port in ports.items()}}
