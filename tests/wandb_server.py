"""A W&B server for tests: accepts a run and throws its data away, until it is shut down; or refuses every key."""

from __future__ import annotations

import http.server
import json
import threading


class _Handler(http.server.BaseHTTPRequestHandler):
    server: WandbServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.server.refuse:
            self._answer(401, {"errors": [{"message": "invalid API key"}]})
        elif self.path == "/graphql":
            self._answer(200, {"data": self._graphql(json.loads(body))})
        else:
            self._answer(200, {})

    do_PUT = do_POST

    def do_GET(self) -> None:
        self._answer(401 if self.server.refuse else 200, {})

    def _graphql(self, request: dict) -> dict:
        query, variables = request["query"], request.get("variables") or {}
        if "upsertBucket" in query:
            self.server.started.set()
            project = {"id": "project", "name": "fran", "entity": {"id": "entity", "name": "tests"}}
            bucket = {"id": "run", "name": variables.get("name"), "displayName": "run", "project": project}
            return {"upsertBucket": {"bucket": bucket | {"historyLineCount": 0}, "inserted": True}}
        if "createRunFiles" in query:
            address = f"http://{self.headers['Host']}/upload/"
            files = [{"name": name, "uploadUrl": address + name} for name in variables["files"]]
            return {"createRunFiles": {"runID": "run", "uploadHeaders": [], "files": files}}
        return {"viewer": {"id": "user", "entity": "tests", "username": "tests"}, "entity": {"organization": None}}

    def _answer(self, status: int, content: dict) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class WandbServer(http.server.ThreadingHTTPServer):
    """Use as a context manager; ``address`` is its WANDB_BASE_URL, ``started`` is set once a run has begun."""

    def __init__(self, refuse: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.refuse = refuse
        self.started = threading.Event()
        self.address = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> WandbServer:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
