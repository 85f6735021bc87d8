"""Read pickles of plain tuples, strings and integers without the pickle machine, which would run what they
say.

Chinese-CLIP stores its text-image pairs as ``pickle.dumps((image_id, text_id, text))`` in an LMDB. A data set
is downloaded from strangers, and `pickle.loads` executes whatever a stranger wrote. Here the opcodes are only
parsed (`pickletools.genops` builds no objects and calls nothing) and those that build plain values are
interpreted; any other opcode is refused.
"""

from __future__ import annotations

import pickletools
from typing import Any

_PUSH = frozenset(
    {"BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4"}
    | {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
)
_IGNORE = frozenset({"PROTO", "FRAME"})
_STORE = frozenset({"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"})
_FETCH = frozenset({"GET", "BINGET", "LONG_BINGET"})
_SIZED = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MARK = object()
_DEEPEST, _MOST = 32, 10_000
"""Levels of tuples in tuples, and values in all when each is counted as often as it is there.

Deeper ones end the process when they are hashed, and a tuple that holds another twice, that a third twice and so on is
without end to whoever prints or hashes it.
"""

Plain = int | str | tuple[Any, ...]


def read_plain_pickle(data: bytes) -> Plain:
    """Return the value of a pickle made of integers, strings and tuples, of any protocol.

    Raises:
        ValueError: another opcode (named in the message), bytes after the end, or no pickle at all.
    """
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    shapes: dict[int, tuple[int, int]] = {}  # of tuples, which are all kept meanwhile: levels and values

    def packed(items: list[Any]) -> tuple[Any, ...]:
        inside = [shapes.get(id(item), (0, 1)) for item in items]
        made = tuple(items)
        levels, values = 1 + max((deep for deep, _ in inside), default=0), 1 + sum(count for _, count in inside)
        if levels > _DEEPEST or values > _MOST:
            raise ValueError(f"refused pickle: tuples in more than {_DEEPEST} levels, or of more than {_MOST} values")
        shapes[id(made)] = levels, values
        kept.append(made)
        return made

    kept: list[Any] = []
    try:
        for opcode, argument, _ in pickletools.genops(data):
            name = opcode.name
            if name in _PUSH:
                stack.append(argument)
            elif name in _STORE:
                memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
            elif name in _FETCH:
                stack.append(memo[argument])
            elif name == "MARK":
                stack.append(_MARK)
            elif name == "TUPLE":
                start = len(stack) - 1 - stack[::-1].index(_MARK)
                stack[start:] = [packed(stack[start + 1 :])]
            elif name in _SIZED:
                start = len(stack) - _SIZED[name]
                if start < 0:
                    raise IndexError(name)
                stack[start:] = [packed(stack[start:])]
            elif name == "STOP":
                break
            elif name not in _IGNORE:
                raise ValueError(f"refused pickle opcode {name}: only integers, strings and tuples are read")
    except (IndexError, KeyError) as error:
        raise ValueError(f"is a broken pickle: {error}") from error
    if len(stack) != 1 or stack[0] is _MARK:
        raise ValueError("is a broken pickle: it does not end in one value")
    value: Plain = stack[0]
    return value
