"""A small task set in BIRD-Interact's format, all our own: two databases, queries and management, with and without follow-up."""

import copy
import json
import os

SHOP = """
CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, town text);
CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customers, placed date, total numeric(8,2), state text);
INSERT INTO customers VALUES (1,'Ada','Lund'),(2,'Ben','Turku'),(3,'Cleo','Lund'),(4,'Dai',NULL);
INSERT INTO orders VALUES (1,1,'2025-01-03',40.00,'paid'),(2,1,'2025-02-11',15.50,'open'),(3,2,'2025-02-12',99.90,'paid'),
 (4,3,'2025-03-01',12.00,'void'),(5,3,'2025-03-09',70.25,'paid'),(6,2,'2025-04-20',5.00,'paid');
"""
YARD = """
CREATE TABLE plots (id int PRIMARY KEY, crop text, area numeric(6,1));
INSERT INTO plots VALUES (1,'rye',2.5),(2,'oats',4.0),(3,'rye',1.5),(4,'flax',0.5);
"""
DATABASES = {"shop": SHOP, "yard": YARD}

MEANINGS = {
    "shop": {"shop|Orders|State": "paid, open or void", "shop|orders|total": "in euros"},
    "yard": {"yard|plots|area": "in hectares"},
}
KNOWLEDGE = {
    "shop": [
        {
            "id": 0,
            "knowledge": "turnover",
            "description": "what came in",
            "definition": "sum of paid totals",
            "type": "x",
        },
        {
            "id": 1,
            "knowledge": "regular",
            "description": "who returns",
            "definition": "two orders or more",
            "type": "x",
        },
    ],
    "yard": [
        {"id": 0, "knowledge": "big plot", "description": "size", "definition": "two hectares or more", "type": "x"}
    ],
}

TURNOVER = "SELECT c.name, sum(o.total) FROM customers c JOIN orders o ON o.customer = c.id WHERE o.state = 'paid' GROUP BY c.name"
TOP = TURNOVER + " ORDER BY 2 DESC LIMIT 1"
VIEW = (
    "CREATE VIEW turnover AS SELECT customer, sum(total) AS amount FROM orders WHERE state = 'paid' GROUP BY customer"
)
VIEW_TEST = """def test_case(pred_sqls, sol_sqls, db_name, conn):
    rows, error, timeout = execute_queries("SELECT amount FROM turnover ORDER BY amount DESC", db_name, conn)
    assert not error and not timeout
    assert [float(row[0]) for row in rows] == [104.9, 70.25, 40.0]
"""
DELETE_TEST = """def test_case(pred_sqls, sol_sqls, db_name, conn):
    rows, error, timeout = execute_queries("SELECT count(*) FROM plots WHERE crop = 'flax'", db_name, conn)
    assert not error and rows[0][0] == 0
"""


def _task(name, database, asks, clear, gold, follow_up=None, category="Query", test_cases=(), ambiguous=1):
    points = [
        {"term": "money", "sql_snippet": "o.state = 'paid'", "is_mask": False, "type": "semantic_ambiguity"}
    ] * ambiguous
    return {
        "instance_id": name,
        "selected_database": database,
        "query": clear,
        "amb_user_query": asks,
        "user_query_ambiguity": {"critical_ambiguity": points, "non_critical_ambiguity": []},
        "knowledge_ambiguity": [],
        "sol_sql": [gold],
        "external_knowledge": [0],
        "test_cases": list(test_cases),
        "category": category,
        "conditions": {"decimal": 2, "distinct": False, "order": False},
        "high_level": False,
        "preprocess_sql": [],
        "clean_up_sqls": [],
        **({"follow_up": follow_up} if follow_up else {}),
    }


def _follow_up(query, gold, category="Query", test_cases=(), as_list=True):
    return {
        "query": query,
        "sol_sql": [gold] if as_list else gold,
        "external_knowledge": [],
        "type": "topic_pivot",
        "test_cases": list(test_cases),
        "category": category,
        "conditions": {"order": False},
    }


LONG = "shop_applications_of_a_kind_whose_name_leaves_no_room_for_anything_M_10"

TASKS = [
    _task(
        "shop_1",
        "shop",
        "How much money did each customer bring?",
        "Sum of paid totals by customer name.",
        TURNOVER,
        _follow_up("Who brought most?", TOP),
    ),
    _task(
        "shop_2",
        "shop",
        "Which towns do our customers live in?",
        "Distinct towns, without unknown ones.",
        "SELECT DISTINCT town FROM customers WHERE town IS NOT NULL",
    ),
    _task(
        "shop_3",
        "shop",
        "How many purchases were there in spring?",
        "Number of orders in March and April 2025.",
        "SELECT count(*) FROM orders WHERE placed >= '2025-03-01' AND placed < '2025-05-01'",
        _follow_up("And in winter?", "SELECT count(*) FROM orders WHERE placed < '2025-03-01'", as_list=False),
    ),
    _task(
        "shop_M_1",
        "shop",
        "Keep a list of what each customer brought.",
        "Create a view turnover(customer, amount).",
        VIEW,
        _follow_up("Who is on top of that list?", "SELECT customer FROM turnover ORDER BY amount DESC LIMIT 1"),
        "Management",
        [VIEW_TEST],
    ),
    _task(
        "yard_1",
        "yard",
        "Where do we grow the most?",
        "The crop with the largest total area.",
        "SELECT crop FROM plots GROUP BY crop ORDER BY sum(area) DESC LIMIT 1",
        ambiguous=2,
    ),
    _task(
        "yard_M_1",
        "yard",
        "Give up the blue flowers.",
        "Delete the plots with flax.",
        "DELETE FROM plots WHERE crop = 'flax'",
        None,
        "Management",
        [DELETE_TEST],
    ),
    _task(
        "yard_2",
        "yard",
        "How big is everything?",
        "Total area of all plots.",
        "SELECT sum(area) FROM plots",
        _follow_up("Only what is big, then.", "SELECT sum(area) FROM plots WHERE area >= 2"),
    ),
    _task(LONG, "shop", "How many people do we sell to?", "Number of customers.", "SELECT count(*) FROM customers"),
]
NAMES = sorted(task["instance_id"] for task in TASKS)

# More of the same, for runs in which every task plays a part: the set above is too small for all parts.
CASES = [
    _task(
        f"case_{word}",
        "shop",
        f"Which towns do our customers live in, as far as {word} goes?",
        "Distinct towns, without unknown ones.",
        "SELECT DISTINCT town FROM customers WHERE town IS NOT NULL",
    )
    for word in (
        *("name", "model", "user", "hang", "sleep"),
        *("dead", "named", "lone", "garbled", "crash", "huge", "spoil", "exit"),
        *("cut", "page", "null", "limit"),
    )
]
# A change, and then a question about what is there.
CASES += [
    _task(
        f"case_{word}",
        "yard",
        f"Give up the blue flowers, by way of {word}.",
        "Delete the plots with flax.",
        "DELETE FROM plots WHERE crop = 'flax'",
        _follow_up("How much rye is there?", "SELECT sum(area) FROM plots WHERE crop = 'rye'"),
        "Management",
        [DELETE_TEST],
    )
    for word in ("rows", "replaced", "caller", "path", "mine", "definer", "helper", "scratch", "more")
]
BY_ID = {task["instance_id"]: task for task in TASKS + CASES}


def write(directory, tasks=TASKS):
    """Writes the data set as the benchmark lays it out; returns the path of the tasks."""
    for name, sql in DATABASES.items():
        folder = os.path.join(directory, name)
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, f"{name}_schema.txt"), "w", encoding="utf-8") as file:
            file.write("\n".join(line for line in sql.splitlines() if line.startswith("CREATE")))
        with open(os.path.join(folder, f"{name}_column_meaning_base.json"), "w", encoding="utf-8") as file:
            json.dump(MEANINGS[name], file)
        with open(os.path.join(folder, f"{name}_kb.jsonl"), "w", encoding="utf-8") as file:
            file.writelines(json.dumps(entry) + "\n" for entry in KNOWLEDGE[name])
    path = os.path.join(directory, "bird_interact_data.jsonl")
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(task) + "\n" for task in tasks)
    return path


def public(task):
    """A task as the public file has it: without its ground truth."""
    task = copy.deepcopy(task)
    for part in filter(None, (task, task.get("follow_up"))):
        part.update(sol_sql=[], external_knowledge=[], test_cases=[])
    return task


def call(tool, **arguments):
    return {"tool": tool, "args": arguments}


def submit(sql):
    return call("submit_sql", sql=sql)


def gold(task_id, phase=1):
    task = BY_ID[task_id]
    sql = (task if phase == 1 else task["follow_up"])["sol_sql"]
    return sql if isinstance(sql, str) else sql[0]


def honest(mode):
    """What the scripted model does with each task, and the reward that this earns."""
    a_interact = mode == "a-interact"
    look = [call("get_schema"), call("execute_sql", sql="SELECT 1")] if a_interact else []
    ask = [call("ask_user", question="Which money counts?")]
    wrong = submit("SELECT 42")
    done = {"text": "Done."}
    scripts = {
        "shop_1": look + ask + [submit(gold("shop_1")), submit(gold("shop_1", 2)), done],
        "shop_2": look + [submit(gold("shop_2")), done],
        "shop_3": ask + [wrong, submit(gold("shop_3")), submit(gold("shop_3", 2)), done],
        "shop_M_1": [submit(gold("shop_M_1")), wrong, wrong, wrong, done],
        "yard_1": look + [wrong, submit("SELECT nothing FROM nowhere"), wrong, wrong, done],
        "yard_M_1": look + ask + [submit(gold("yard_M_1")), done],
        "yard_2": [submit(gold("yard_2")), wrong, submit(gold("yard_2", 2)), done],
        LONG: [submit(gold(LONG)), done],
    }
    first, again, second, later = (0.7, 0.7, 0.3, 0.3) if a_interact else (0.7, 0.5, 0.3, 0.2)
    rewards = {
        "shop_1": first + second,
        "shop_2": first,
        "shop_3": again + second,
        "shop_M_1": first,
        "yard_1": 0.0,
        "yard_M_1": first,
        "yard_2": first + later,
        LONG: first,
    }
    return scripts, {task: round(reward, 6) for task, reward in rewards.items()}


DONE = {"text": "Done."}


def solved(names=None):
    """Scripts that hand in the gold SQL of these tasks, of all of them by default."""
    names = NAMES if names is None else names
    phases = {name: (1, 2) if BY_ID[name].get("follow_up") else (1,) for name in names}
    return {name: [*(submit(gold(name, phase)) for phase in phases[name]), DONE] for name in names}


def unsolved(names):
    """Scripts that hand in something else."""
    return {name: [submit("SELECT 42"), DONE] for name in names}
