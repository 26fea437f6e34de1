"""Stand-in: a domain with a task of each kind, and one whose ids are as awkward as telecom's."""

from tau2.data_model.tasks import Task
from tau2.utils.utils import DATA_DIR

FAULTS = ("airplane_mode_on", "bad_wifi_calling", "break_apn_mms_setting", "data_usage_exceeded", "unseat_sim_card")


def _task(name, scenario, actions, basis=("DB",), **criteria):
    actions = [
        {"name": "set_item", "arguments": {"name": step[1], "value": step[3]}} if step[0] == "set"
        else {"name": "flip", "requestor": "user", "arguments": {"name": step[1]}}
        for step in map(str.split, actions)
    ]
    criteria = {"actions": actions, "reward_basis": list(basis), **criteria}
    return Task(id=name, user_scenario=f"SCENARIO {scenario}", evaluation_criteria=criteria)


def _mock():
    return [
        _task("easy", "Please set alpha to 1", ["set alpha to 1"]),
        _task("hard", "Please set alpha, you know to what", ["set alpha to 1"]),
        _task("asserted", "Please set beta to 2", ["set beta to 2"], ["DB", "ENV_ASSERTION"], env_assertions=[["beta", "2"]]),
        _task("judged", "Please set gamma to 3", ["set gamma to 3"], ["DB", "NL_ASSERTION"], nl_assertions=["kind", "brief"]),
        _task("unjudged", "Please set delta to 4", ["set delta to 4"], nl_assertions=["kind"]),
        _task("both", "Please flip wifi and set eps to 5", ["flip wifi", "set eps to 5"]),
        Task(id="lenient", user_scenario="SCENARIO Hello"),
    ]


def telecom_id(number):
    faults = "|".join(FAULTS[(number + step) % 5] + f"_{number}" for step in range(2 + number % 4))
    name = f"[mms_issue]{faults}[PERSONA:Easy {number}]"
    return name if number else name + "|" * (215 - len(name))


def _telecom():
    """Every third task needs what the customer does not say: another value, or something the customer has to do. A few
    are judged."""
    tasks = []
    for n in range(60):
        actions = [f"set line{n} to {n if n % 6 else 'secret'}", *([f"flip line{n}"] if n % 6 == 3 else [])]
        judged = {"basis": ("DB", "NL_ASSERTION"), "nl_assertions": ["kind", "brief"]} if n % 10 == 5 else {}
        tasks.append(_task(telecom_id(n), f"MARKER{n}X Please set line{n} to {n}", actions, **judged))
    return tasks


def get_tasks(task_set_name, task_split_name=None, task_ids=None):
    (DATA_DIR / "tau2/domains" / task_set_name / "tasks.json").read_text(encoding="utf-8")  # Fails where the data cannot be read.
    return {"mock": _mock, "telecom": _telecom}[task_set_name]()


def load_task_splits(task_set_name):
    if task_set_name == "mock":
        return None
    return {"train": [telecom_id(n) for n in range(40)], "test": [telecom_id(n) for n in range(40, 60)]}
