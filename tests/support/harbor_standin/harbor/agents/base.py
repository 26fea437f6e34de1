"""Harbor's class of agents, as far as a benchmark of ours touches it."""

import logging

from harbor.agents.capabilities import AgentCapabilities


class BaseAgent:
    capabilities = AgentCapabilities()
    session_id = context_id = None

    def __init__(self, logs_dir, model_name=None, logger=None, mcp_servers=None, skills_dir=None, **kwargs):
        self.logs_dir, self.model_name, self.skills_dir = logs_dir, model_name, skills_dir
        self.logger = (logger or logging.getLogger("harbor")).getChild(__name__)
        self.mcp_servers = mcp_servers or []

    async def setup(self, environment):
        raise NotImplementedError

    def populate_context_post_run(self, context):
        pass
