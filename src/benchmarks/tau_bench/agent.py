"""The agent: a customer service representative that follows a policy and works with tools.

tau-bench creates one `HarnessAgent` per conversation and calls `generate_next_message` with what the customer said or what
a tool returned. The answer is either a text for the customer or tool calls, not both.

Model calls go through tau2's `generate` (or `litellm.completion`); no key is needed or present here. AGENT_MODEL and
AGENT_REASONING_EFFORT name the model and its effort.
"""

import os

from tau2.agent.base_agent import HalfDuplexAgent
from tau2.data_model.message import MultiToolMessage, SystemMessage
from tau2.utils.llm_utils import generate

INSTRUCTION = """
You are a customer service agent. You help the customer within the limits of the policy below.

In each turn you do one of two things, never both:
- send a message to the customer, or
- call tools.

Follow the policy to the letter. Do not invent facts, procedures or promises that neither the policy nor a tool gave you.
"""

PROMPT = """<instructions>
{instruction}
</instructions>
<policy>
{policy}
</policy>"""


class HarnessAgent(HalfDuplexAgent):
    """What the benchmark imports."""

    def __init__(self, tools, domain_policy, llm=None, llm_args=None):
        super().__init__(tools=tools, domain_policy=domain_policy)
        self.model = os.environ.get("AGENT_MODEL") or llm
        self.model_args = dict(llm_args or {})
        effort = os.environ.get("AGENT_REASONING_EFFORT")
        if effort:
            self.model_args["reasoning_effort"] = effort

    def set_seed(self, seed):
        """Called once before the conversation; makes it as repeatable as the provider allows."""
        self.model_args["seed"] = seed

    def system_prompt(self):
        """What the model is told first."""
        return PROMPT.format(instruction=INSTRUCTION.strip(), policy=self.domain_policy)

    def get_init_state(self, message_history=None):
        """The state before the first turn: the system prompt and what has been said already."""
        return [SystemMessage(role="system", content=self.system_prompt()), *(message_history or [])]

    def generate_next_message(self, message, state):
        """One turn: takes the customer's message or the tools' results in, returns the answer and the new state."""
        state.extend(message.tool_messages if isinstance(message, MultiToolMessage) else [message])
        answer = generate(
            model=self.model, messages=state, tools=self.tools, call_name="agent_response", **self.model_args
        )
        state.append(answer)
        return answer, state
