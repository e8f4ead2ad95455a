"""uWebSockets, by the PyPI package socketify: a server that publishes to everybody who is connected.

Says `{"port": …, "pid": …}` when it listens. Then, for every line `write OFFSET_MS ROUNDS` on standard input, it
publishes so many updates as `grid load` has them, and answers with one line of JSON. It ends with its input.
"""

import json
import os
import sys
import threading
import urllib.request

import socketify

from bid import bid

NO_LIMIT = 0


def serve() -> None:
    app = socketify.App()

    def write(response, request) -> None:
        offset_ms, rounds, number = (int(request.get_parameter(place)) for place in range(3))
        for round in range(rounds):
            app.publish("updates", bid(number + round, offset_ms + round), socketify.OpCode.TEXT)
        response.end("")

    app.ws(
        "/v1/ws",
        {
            "compression": socketify.CompressOptions.DISABLED,
            "max_payload_length": 64 * 1024,
            "idle_timeout": NO_LIMIT,
            "upgrade": lambda response, request, context: response.upgrade(
                request.get_header("sec-websocket-key"),
                request.get_header("sec-websocket-protocol"),
                request.get_header("sec-websocket-extensions"),
                context,
                None,
            ),
            "open": lambda socket: socket.subscribe("updates"),
        },
    )
    app.get("/write/:offset/:rounds/:number", write)
    app.listen(
        {"host": "127.0.0.1", "port": 0},
        lambda config: threading.Thread(target=obey, args=(config.port,), daemon=True).start(),
    )
    app.run()


def obey(port: int) -> None:
    print(json.dumps({"port": port, "pid": os.getpid()}), flush=True)
    number = 1
    for line in sys.stdin:
        _, offset_ms, rounds = line.split()
        url = f"http://127.0.0.1:{port}/write/{offset_ms}/{rounds}/{number}"
        urllib.request.urlopen(url).read()
        number += int(rounds)
        print(json.dumps({"wrote": int(rounds)}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    serve()
