"""GitHub's comments of a pull request, on the loopback: github_api.py DIRECTORY

Prints its port, keeps the comments in DIRECTORY/comments.json and every request in DIRECTORY/requests.
A token other than `good` may only read. Ends when its parent does (at the end of stdin)."""
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

ROOT = sys.argv[1]
COMMENTS = os.path.join(ROOT, "comments.json")


class Handler(BaseHTTPRequestHandler):
    def answer(self):
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "null")
        url = urlsplit(self.path)
        with open(os.path.join(ROOT, "requests"), "a", encoding="utf-8") as file:
            file.write(f"{self.command} {url.path}\n")
        with open(COMMENTS, encoding="utf-8") as file:
            comments = json.load(file)
        if self.command != "GET" and self.headers["Authorization"] != "Bearer good":
            return self.reply(403, {"message": "Resource not accessible by integration"})
        if self.command == "GET" and url.path == "/repos/o/r/issues/7/comments":
            query = {name: int(value[0]) for name, value in parse_qs(url.query).items()}
            first = (query["page"] - 1) * query["per_page"]
            return self.reply(200, comments[first:first + query["per_page"]])
        if self.command == "POST" and url.path == "/repos/o/r/issues/7/comments":
            comments.append({"id": len(comments), "user": {"login": "github-actions[bot]"}, "body": body["body"]})
            made = comments[-1]
        elif self.command == "PATCH" and url.path.startswith("/repos/o/r/issues/comments/"):
            made = comments[int(url.path.rsplit("/", 1)[1])]
            made["body"] = body["body"]
        else:
            return self.reply(404, {"message": "Not Found"})
        with open(COMMENTS, "w", encoding="utf-8") as file:
            json.dump(comments, file)
        return self.reply(201, made)

    do_GET = do_POST = do_PATCH = answer

    def reply(self, status, value):
        text = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_port, flush=True)
sys.stdin.read()
