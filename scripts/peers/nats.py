"""nats-server over its WebSocket: it hands what is published to everybody who has subscribed.

Says `{"port": …, "pid": …}` of the server when that listens. Then, for every line `write OFFSET_MS ROUNDS` on
standard input, it publishes so many updates as `grid load` has them, and answers with one line of JSON. The
server ends with it.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time

from bid import bid

START_TIMEOUT_S = 20
CONFIGURATION = """
listen: "127.0.0.1:{port}"
max_connections: 200000
websocket {{ listen: "127.0.0.1:{websocket_port}", no_tls: true, compression: false }}
"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def connected(port: int) -> socket.socket:
    """A publisher's connection, once the server is there."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            publisher = socket.create_connection(("127.0.0.1", port))
            break
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
    publisher.sendall(b'CONNECT {"verbose":false,"pedantic":false}\r\nPING\r\n')
    heard = b""
    while b"PONG\r\n" not in heard:
        heard += publisher.recv(4096)
    return publisher


def obey(publisher: socket.socket) -> None:
    number = 1
    for line in sys.stdin:
        _, offset_ms, rounds = line.split()
        for round in range(int(rounds)):
            text = bid(number, int(offset_ms) + round).encode()
            publisher.sendall(b"PUB updates %d\r\n%s\r\n" % (len(text), text))
            number += 1
        print(json.dumps({"wrote": int(rounds)}), flush=True)


def main() -> None:
    program = shutil.which("nats-server", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if program is None:
        sys.exit("nats-server is not installed: apt-get install nats-server")
    port, websocket_port = free_port(), free_port()
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as configuration:
        configuration.write(CONFIGURATION.format(port=port, websocket_port=websocket_port))
        configuration.flush()
        server = subprocess.Popen(
            [program, "-c", configuration.name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            publisher = connected(port)
            print(json.dumps({"port": websocket_port, "pid": server.pid}), flush=True)
            obey(publisher)
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
