"""The wire that the tests of an audit stand on leaves no connection behind, whatever the far end says."""

from __future__ import annotations

import gc
import socket
import threading
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from sealwax.lab import Lab
from tests.audit.wire import wire


@pytest.mark.parametrize("said", [b"no HTTP at all\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_far_end_that_answers_wrongly(said: bytes, tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as far:

        def answer() -> None:
            accepted, _ = far.accept()
            with accepted:
                accepted.recv(65536)
                accepted.sendall(said)

        answering = threading.Thread(target=answer)
        answering.start()
        with Lab(tmp_path / "lab") as lab, wire(lab, f"http://127.0.0.1:{far.getsockname()[1]}") as between:
            near = HTTPConnection(urlsplit(between.url).netloc, timeout=60)
            near.request("POST", "/", b"{}")
            with pytest.raises((HTTPException, OSError)):
                near.getresponse()
            near.close()
        answering.join()
    gc.collect()
    assert [str(one.message) for one in recwarn if issubclass(one.category, ResourceWarning)] == []
