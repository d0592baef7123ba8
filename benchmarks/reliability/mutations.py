"""Files as a stranger may send them: bytes and documents of which something was changed."""

from __future__ import annotations

import json
import random
from hashlib import sha256
from typing import Any

from medusa_core.store import container

_NASTY: tuple[Any, ...] = (
    *(None, True, -1, 0, 2**31, 2**63, 10**400, 1e308, float("nan"), 0.5),
    *("", "../../x", "/etc/passwd", "\x1b[2J\x07", "a" * 10_000, "os:system", "\ud800", "\0"),
    *([], {}, [[]] * 1000, {"a": {"b": {}}}, [1, 2], ["x"] * 10_000, {"schema_version": 2}),
)


def mutated_bytes(data: bytes, chance: random.Random) -> bytes:
    """Some bytes changed, cut out, doubled, or put somewhere else."""
    result = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        start = chance.randrange(len(result) + 1)
        end = min(len(result), start + chance.choice((1, 1, 4, 64, 4096)))
        kind = chance.randrange(6)
        if kind == 0 and start < len(result):
            result[start] ^= 1 << chance.randrange(8)
        elif kind == 1:
            result[start:end] = chance.randbytes(end - start)
        elif kind == 2:
            del result[start:end]
        elif kind == 3:
            result[start:start] = result[start:end]
        elif kind == 4:
            del result[start:]
        else:
            value = chance.choice((0, 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1))
            result[start : start + 8] = value.to_bytes(8, chance.choice(("little", "big")))
    return bytes(result)


def mutated_json(document: Any, chance: random.Random) -> Any:
    """A document of which one value, anywhere, is another one, gone, or under another name."""
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            places.append((node, key))
            if isinstance(value, (dict, list)):
                walk(value)

    document = json.loads(json.dumps(document))
    walk(document)
    node, key = chance.choice(places)
    kind = chance.randrange(4)
    if kind == 0:
        del node[key]
    elif kind == 1 and isinstance(node, dict):
        node[chance.choice(("x", "__class__", "", "\x1b[0m", key + "_"))] = node.pop(key)
    elif kind == 2:
        other, place = chance.choice(places)
        node[key] = json.loads(json.dumps(other[place])) if _has(other, place) else None
    else:
        node[key] = chance.choice(_NASTY)
    return document


def _has(node: Any, key: Any) -> bool:
    return key in node if isinstance(node, dict) else key < len(node)


def mutated_document(data: bytes, chance: random.Random) -> bytes:
    """A JSON text: mutated as text, or as a document."""
    if chance.random() < 0.4:
        return mutated_bytes(data, chance)
    return json.dumps(mutated_json(json.loads(data), chance)).encode()


def mutated_head_file(data: bytes, chance: random.Random) -> bytes:
    """A head file: mutated as bytes, or its header or record as documents, hashes set right."""
    if chance.random() < 0.3:
        return mutated_bytes(data, chance)
    header, values = container.split(data, "it")
    body = bytes(values)
    if chance.random() < 0.5:
        record = json.loads(header["__metadata__"]["medusa"])
        header["__metadata__"]["medusa"] = json.dumps(mutated_json(record, chance))
        return container.join(header, body)
    text = header.pop("__metadata__")["medusa"]
    if chance.random() < 0.5:
        body = mutated_bytes(body, chance)
    else:
        header = mutated_json(header, chance)
    try:
        weights = container.join(header, body)
    except ValueError:  # a lone surrogate, which no file can hold
        return mutated_bytes(data, chance)
    record = {**json.loads(text), "sha256": sha256(weights).hexdigest()}
    return container.join({"__metadata__": {"medusa": json.dumps(record)}, **header}, body)
