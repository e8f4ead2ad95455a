#!/usr/bin/env python3
"""Checks the order of a waiting room from what its gateway publishes, with nothing but Python's own library.

    python3 verify_order.py http://127.0.0.1:7700 EVENT_ID [COMMITMENT [NUMBER PSEUDONYM]]

COMMITMENT is what was published before the room opened: give it if you wrote it down then, since a gateway that
lies could show another one now. NUMBER and PSEUDONYM are your own, as you were told when you joined. Exit code 0:
the order is the one that the lottery gives.
"""

import hashlib
import json
import sys
import urllib.request
import uuid


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def get(url):
    with urllib.request.urlopen(url, timeout=30) as response:
        return json.load(response)


def published_list(base):
    rows, after = [], None
    while True:
        page = get(f"{base}/order?limit=1000" + (f"&after={after}" if after is not None else ""))
        rows += page["items"]
        after = page.get("next")
        if after is None:
            return rows


def verify(room, rows, event):
    """Says what does not agree; nothing if all does."""
    wrong = []
    secret, entropy = bytes.fromhex(room["secret"]), bytes.fromhex(room["entropy"])
    if sha256(b"spacegrid room commitment", secret).hex() != room["commitment"]:
        wrong.append("the secret is not the one that was committed to")
    if [row["number"] for row in rows] != list(range(room["early"])):
        wrong.append("the list has not every number once")
    digest = bytes(32)
    for row in rows:
        digest = sha256(digest, bytes.fromhex(row["pseudonym"]))
    if digest.hex() != room["list_digest"]:
        wrong.append("the list is not the one that was sealed")
    seed = sha256(b"spacegrid room seed", secret, entropy, digest, event.bytes)
    if seed.hex() != room["seed"]:
        wrong.append("the seed does not follow from secret, entropy and list")

    def score(number):
        return sha256(b"spacegrid room score", seed, number.to_bytes(4, "big")), number

    order = sorted(range(len(rows)), key=score)
    if any(rows[number].get("rank") != rank for rank, number in enumerate(order)):
        wrong.append("the ranks are not those that the scores give")
    return wrong


def main(gateway, event_id, commitment=None, number=None, pseudonym=None):
    base = f"{gateway.rstrip('/')}/v1/events/{event_id}/waiting-room"
    room = get(base)
    if "secret" not in room:
        print(f"the room is {room['phase']}: the secret is revealed when it opens")
        return 2
    rows = published_list(base)
    wrong = verify(room, rows, uuid.UUID(event_id))
    if commitment is not None and commitment != room["commitment"]:
        wrong.append("the commitment is not the one that was published before")
    if number is not None and rows[int(number)]["pseudonym"] != pseudonym:
        wrong.append("your entry is not in the list")
    for text in wrong:
        print(text)
    print(f"{len(rows)} early entries: " + ("NOT PROVEN" if wrong else "the order is the lottery's"))
    return 1 if wrong else 0


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4, 6):
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
