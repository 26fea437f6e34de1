"""Parses a Python file, never runs it, and looks for a top-level name. Prints one JSON object on failure."""
import _ast as ast  # What `ast` is about, without all that it imports: this runs before every command that scores.
import sys


def fail(line, message):
    import json

    print(json.dumps({"line": line, "message": message}))
    sys.exit(1)


def targets(node):
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, (ast.Tuple, ast.List)):
        for element in node.elts:
            yield from targets(element)
    elif isinstance(node, ast.Starred):
        yield from targets(node.value)


def names(body):
    """Names that module-level statements define; `*` for a star import, which could define anything."""
    for node in body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                yield from targets(target)
        elif isinstance(node, ast.AnnAssign):
            if node.value is not None:
                yield from targets(node.target)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            for alias in node.names:
                yield alias.asname or alias.name.split(".")[0]
        elif type(node).__name__ == "TypeAlias":
            yield from targets(node.name)
        else:
            for field in ("body", "orelse", "finalbody"):
                inner = getattr(node, field, None)
                if isinstance(inner, list):
                    yield from names(inner)
            for handler in getattr(node, "handlers", []):
                yield from names(handler.body)


path, shown, symbol = sys.argv[1:4]
with open(path, "rb") as file:
    data = file.read()
if b"\0" in data:
    fail(data.count(b"\n", 0, data.index(b"\0")) + 1, "null byte in source")
try:
    tree = compile(data, shown, "exec", ast.PyCF_ONLY_AST, dont_inherit=True)
    # Finds what the parser alone does not, such as `return` outside a function. Compiles; runs nothing.
    compile(tree, shown, "exec", dont_inherit=True)
except SyntaxError as error:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as decode:
        if not error.lineno or "codec" in str(error.msg):
            fail(data.count(b"\n", 0, decode.start) + 1, "not UTF-8")
    fail(error.lineno, "%s: %s" % (type(error).__name__, error.msg))
except (RecursionError, MemoryError, ValueError, OverflowError) as error:
    fail(None, "cannot be parsed: %s: %s" % (type(error).__name__, error))
if symbol:
    found = set(names(tree.body))
    if symbol not in found and "*" not in found:
        fail(None, "does not define `%s` at the top level" % symbol)
