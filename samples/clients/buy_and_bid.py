#!/usr/bin/env python3
"""A bid and a purchase, over one WebSocket.

    pip install websockets
    ./buy_and_bid.py http://127.0.0.1:7700 EVENT_ID AUCTION_ID

Prints one JSON document of what was done. The protocol: docs/protocol.md, its schemas: /asyncapi.json.
"""

import collections
import json
import sys
import uuid

from websockets.sync.client import connect

ANSWER_TIMEOUT_S = 20


class Refused(Exception):
    """The server said no; `code` is stable, `detail` is for programs."""

    def __init__(self, answer):
        super().__init__(answer["message"])
        self.code = answer["code"]
        self.detail = answer.get("detail") or {}


class Client:
    """Requests and their answers; events that come between them are kept for `event`."""

    def __init__(self, socket):
        self.socket = socket
        self.events = collections.deque()
        self.last_id = 0

    def ask(self, message):
        self.last_id += 1
        self.socket.send(json.dumps({**message, "id": self.last_id}))
        while True:
            answer = json.loads(self.socket.recv(timeout=ANSWER_TIMEOUT_S))
            if answer.get("id") != self.last_id:
                self.events.append(answer)
            elif answer["type"] == "error":
                raise Refused(answer)
            else:
                return answer["data"]

    def command(self, message):
        # With a key the same message can be sent again when its answer was lost: it happens once.
        return self.ask({**message, "key": str(uuid.uuid4())})

    def event(self):
        return self.events.popleft() if self.events else json.loads(self.socket.recv(timeout=ANSWER_TIMEOUT_S))


def bid(client, auction_id):
    auction = client.ask({"type": "subscribe", "auction_id": auction_id})
    try:
        client.command({"type": "place_bid", "auction_id": auction_id, "amount": "0.01"})
        refused = None
    except Refused as refusal:
        refused = refusal.code
    amount = auction["minimum_next"]["amount"]
    placed = client.command({"type": "place_bid", "auction_id": auction_id, "amount": amount})
    told = client.event()
    assert told["data"]["bid_id"] == placed["bid_id"] and told["data"]["own"]
    return {"refused": refused, "rank": placed["rank"], "amount": placed["amount"], "told": [told["type"]]}


def buy(client, event_id):
    choice = {"quantity": 2, "best_available": True}
    hold = client.command({"type": "hold_seats", "event_id": event_id, **choice})
    payment = {"hold_id": hold["hold_id"], "payment_reference": "card-4711"}
    bought = client.command({"type": "confirm_hold", "event_id": event_id, **payment})
    return {"tickets": [ticket["seat"] for ticket in bought["tickets"]]}


def main():
    gateway, event_id, auction_id = sys.argv[1:]
    address = gateway.replace("http", "ws", 1) + f"/v1/ws?user_id={uuid.uuid4()}"
    with connect(address, subprotocols=["grid.v1.json"], compression=None) as socket:
        client = Client(socket)
        done = {**bid(client, auction_id), **buy(client, event_id)}
    print(json.dumps(done))


if __name__ == "__main__":
    main()
