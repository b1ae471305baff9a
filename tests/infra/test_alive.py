import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from infra.docker.alive import answers
from infra.local.process import free_port


@pytest.fixture(scope="module")
def port():
    class Server(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/readyz" else 503)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def test_only_a_200_is_well(port):
    assert answers(port, "/readyz")
    assert not answers(port, "/loading")


def test_where_nobody_listens_nobody_is_well():
    assert not answers(free_port(), "/")
