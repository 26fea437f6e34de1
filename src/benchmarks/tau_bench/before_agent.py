"""What an agent's process has done before it imports the agent: the preflight does it as well, so that it fails where a trial would."""
import os

from tau_bench import fence, tasks


def before(agent_file, data, fenced):
    """Imports tau2, whose data lies in the directory `data`, and goes behind the fence if `fenced`."""
    tasks.load_upstream(data)
    if fenced:
        fence.put_up(fence.readable(os.path.dirname(agent_file)), network=False)
