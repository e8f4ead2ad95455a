#!/usr/bin/env python3
"""Checks a proof of `grid audit proof` with nothing but Python's standard library.

    python3 verify_proof.py PROOF.json PUBLIC_KEY

PUBLIC_KEY is the grid's, 64 hexadecimal digits, as `grid audit key` shows it. Get it from somebody you
trust, not from the proof. Ends with 0 and the fact if the proof is right, with 1 and the reason if not.

Written from docs/audit.md, without the project's code, so that it can be read and trusted on its own.
"""

import hashlib
import json
import sys

# Ed25519, as in RFC 8032, section 6: slow and plain.
P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
SQRT_M1 = pow(2, (P - 1) // 4, P)


def point_add(one, other):
    a = (one[1] - one[0]) * (other[1] - other[0]) % P
    b = (one[1] + one[0]) * (other[1] + other[0]) % P
    c = 2 * one[3] * other[3] * D % P
    d = 2 * one[2] * other[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def point_multiply(scalar, point):
    result = (0, 1, 1, 0)
    while scalar > 0:
        if scalar & 1:
            result = point_add(result, point)
        point = point_add(point, point)
        scalar >>= 1
    return result


def point_equal(one, other):
    return (one[0] * other[2] - other[0] * one[2]) % P == 0 and (
        one[1] * other[2] - other[1] * one[2]
    ) % P == 0


def recover_x(y, sign):
    if y >= P:
        return None
    x2 = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    if x2 == 0:
        return None if sign else 0
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P != 0:
        x = x * SQRT_M1 % P
    if (x * x - x2) % P != 0:
        return None
    return P - x if (x & 1) != sign else x


def point_decompress(text):
    y = int.from_bytes(text, "little")
    sign = y >> 255
    y &= (1 << 255) - 1
    x = recover_x(y, sign)
    return None if x is None else (x, y, 1, x * y % P)


BASE_Y = 4 * pow(5, P - 2, P) % P
BASE_X = recover_x(BASE_Y, 0)
BASE = (BASE_X, BASE_Y, 1, BASE_X * BASE_Y % P)


def is_signed(public_key, message, signature):
    if len(public_key) != 32 or len(signature) != 64:
        return False
    key = point_decompress(public_key)
    point = point_decompress(signature[:32])
    scalar = int.from_bytes(signature[32:], "little")
    if key is None or point is None or scalar >= L:
        return False
    digest = hashlib.sha512(signature[:32] + public_key + message).digest()
    challenge = int.from_bytes(digest, "little") % L
    return point_equal(
        point_multiply(scalar, BASE), point_add(point, point_multiply(challenge, key))
    )


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def leaf_of(fact):
    """The hash of a fact: its fields as lines, the payload last and exactly as it stands."""
    fields = ["partition", "log_index", "seq", "at_ms", "kind", "entity", "payload"]
    text = "\n".join(["spacegrid-fact-1"] + [str(fact[field]) for field in fields])
    return sha256(b"\x00", text.encode())


def root_of(leaf, index, leaves, path):
    """Where the path leads (RFC 9162, 2.1.3.2), or None if it fits no tree of that size."""
    if not 0 <= index < leaves:
        return None
    place, last, node = index, leaves - 1, leaf
    for other in path:
        if last == 0:
            return None
        if place % 2 == 1 or place == last:
            node = sha256(b"\x01", other, node)
            while place % 2 == 0 and place != 0:
                place //= 2
                last //= 2
        else:
            node = sha256(b"\x01", node, other)
        place //= 2
        last //= 2
    return node if last == 0 else None


def statement_of(root):
    """The text that is signed."""
    fields = [
        ("grid", "grid_id"),
        ("partition", "partition"),
        ("number", "number"),
        ("first_leaf", "first_leaf"),
        ("leaves", "leaves"),
        ("first_block", "first_block"),
        ("last_block", "last_block"),
        ("last_index", "last_index"),
        ("root", "root"),
        ("chain", "chain"),
        ("previous", "previous"),
        ("signed_at_ms", "signed_at_ms"),
    ]
    lines = ["spacegrid-root-1"] + [f"{name} {root[field]}" for name, field in fields]
    return ("\n".join(lines) + "\n").encode()


def wrong_with(proof, public_key):
    """What is wrong with a proof; None if nothing is."""
    if proof["format"] != "spacegrid-proof-1":
        return "it is of another format"
    fact, root = proof["fact"], proof["root"]
    if not isinstance(fact["payload"], str) or "\n" in fact["kind"] or "\n" in fact["entity"]:
        return "its fact is not as facts are"
    if fact["partition"] != root["partition"]:
        return "fact and root are of different partitions"
    path = [bytes.fromhex(node) for node in proof["path"]]
    found = root_of(leaf_of(fact), proof["leaf_index"], root["leaves"], path)
    if found is None or found.hex() != root["root"]:
        return "the fact is not under the root"
    if bytes.fromhex(root["public_key"]) != public_key:
        return "it is signed by another key: " + root["public_key"]
    if not is_signed(public_key, statement_of(root), bytes.fromhex(root["signature"])):
        return "the signature does not fit"
    return None


def main(arguments):
    if len(arguments) != 3:
        print(__doc__)
        return 2
    try:
        with open(arguments[1], encoding="utf-8") as file:
            proof = json.load(file)
        wrong = wrong_with(proof, bytes.fromhex(arguments[2].strip()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        wrong = f"it cannot be read: {error!r}"
    if wrong:
        print(f"WRONG: {wrong}")
        return 1
    fact, root = proof["fact"], proof["root"]
    print(f"RIGHT: grid {root['grid_id']}, signed at {root['signed_at_ms']} ms since 1970")
    print(f"{fact['kind']} of {fact['entity']} at {fact['at_ms']} ms since 1970, as place", end=" ")
    print(f"{fact['partition']}:{fact['log_index']}:{fact['seq']}")
    print(json.dumps(json.loads(fact["payload"]), indent=2, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
