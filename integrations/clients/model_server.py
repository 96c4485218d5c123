"""The scripted model behind the APIs of OpenAI and Gemini, on a port of this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from clients.dialects import gemini, openai_chat, openai_responses
from clients.scripted_model import ScriptedModel

DIALECTS = (openai_chat, openai_responses, gemini)


@contextmanager
def serve_model(model: ScriptedModel) -> Iterator[str]:
    """Serve the model as long as the block runs; gives the address, without a path."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _make_handler(model))
    thread = threading.Thread(target=server.serve_forever, name="scripted model", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _make_handler(model: ScriptedModel) -> type[BaseHTTPRequestHandler]:
    lock = threading.Lock()  # one answer at a time: the script has one order

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
            path = self.path.partition("?")[0]
            dialect = next((each for each in DIALECTS if path.endswith(each.PATH)), None)
            if dialect is None or body.get("stream"):
                self._reply(
                    404, {"error": {"message": f"The scripted model does not answer {path}, nor in streams."}}
                )
                return
            with lock:
                answer = model.answer(dialect.read_request(body))
                self._reply(200, dialect.write_answer(answer, len(model.recording.exchanges)))

        def _reply(self, status: int, document: dict[str, Any]) -> None:
            data = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing on stderr: the recording has it all."""

    return Handler
