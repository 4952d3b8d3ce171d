"""Pickle files of others, read without ``pickle``: only arrays and plain containers can come out.

A pickle is a program for a small stack machine (the opcodes are documented in Python's
``pickletools``). This is that machine with everything taken away that could run code: it knows the
opcodes that push data, and the few calls that numpy writes down for arrays, each one answered here,
from bytes. No class, function or attribute is ever looked up, so there is nothing to call. Any
other name or opcode is refused, and the message names it.

Why not a ``pickle.Unpickler`` with a list of allowed names: numpy's own ``dtype`` lets a file set
its internal flags. With them cleared an array of objects takes bytes for addresses, so that a
hostile file gets at any memory by allowed names alone. Here numpy sees a checked dtype, a checked
shape and as many bytes as these need, nothing else of the file.

The file is mapped, not read: a large array stays on disk until it is used, and a length is
compared with what is left of the file before anything is made. Memory is bounded by the size of
the file, whatever numbers stand in it: what calls make anew (bytes of text, say) may be a few times
as large as the file, all in all, and the program may have only so many steps.
"""

from __future__ import annotations

import pickle
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mmer_lib.corpora.rebuild import (
    ALLOWED,
    CALLS,
    DType,
    Name,
    Pending,
    Refused,
    array_of_state,
    plain,
    size_of_copy,
    told,
    tuple_of,
    word,
)  # fmt: skip
from mmer_lib.errors import InputError

_QUOTED = re.compile(r"""['"](?:[ -\[\]-~]|\\[\\'"nrt]|\\x[0-9a-f]{2})*['"]""")
_SMALL = 4096  # bytes; what is longer stays in the mapped file
_STEPS = 5_000_000  # opcodes: a container of one byte takes a hundred in memory
_COPIES = 8  # times the file's size that calls may make: a place in an array of objects has 8 bytes


def load_plain(path: Path) -> Any:
    """What the pickle ``path`` holds: dicts, lists, tuples, text, bytes, numbers and arrays.

    Arrays of numbers stay in the file until they are used and must not be written to; so do bytes
    of more than 4 KiB, which come as an array. Text that Python 2 wrote comes as bytes, but as text
    where it is the key of a dict. The file must not change while they are in use.

    Raises ``InputError`` for a file that is not there or cut short, and for one that holds
    anything else; no part of it is run.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a .pkl file")
    if not path.stat().st_size:
        raise InputError(f"{path} is empty; expected a .pkl file")
    try:
        machine = _Machine(np.memmap(path, np.uint8, mode="r"))
        return machine.run()
    except Refused as error:
        raise InputError(
            f"{path} is refused at byte {machine.at}: {error}. Only plain containers, text, "
            f"numbers and numpy arrays are read; nothing in the file was run"
        ) from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


# -- the machine -----------------------------------------------------------------------------------


class _Machine:
    """Runs the opcodes of ``raw`` (bytes of the file) that make data."""

    def __init__(self, raw: np.ndarray) -> None:
        self.raw = raw
        self.view = raw.data
        self.at = 0  # the next byte
        self.stack: list[Any] = []
        self.marks: list[int] = []  # heights of the stack
        self.memo: dict[int, Any] = {}
        self.left = _COPIES * (len(raw) + _SMALL)  # bytes that calls may still make

    def run(self) -> Any:
        """The value on the stack when the program stops."""
        for _ in range(_STEPS):
            code = self.take(1)
            if code == pickle.STOP:
                return plain(self.pop())
            if code not in _OPCODES:
                raise Refused(f"{_opcode(code)} is not among those that make plain data")
            try:
                _OPCODES[code](self)
            except (ValueError, OverflowError, MemoryError) as error:
                raise Refused(f"{_opcode(code)} comes with a value that cannot be") from error
        raise Refused(f"it takes more than {_STEPS:,} steps")

    # bytes of the file

    def skip(self, n: int) -> slice:
        """Where the next ``n`` bytes lie, if there are as many."""
        if n > len(self.raw) - self.at:
            raise Refused(
                f"{n} bytes are announced, but only {len(self.raw) - self.at} are left; the file "
                f"is cut short or no pickle"
            )
        self.at += n
        return slice(self.at - n, self.at)

    def take(self, n: int) -> bytes:
        return bytes(self.view[self.skip(n)])

    def number(self, layout: str) -> Any:
        """The next number of a layout of ``struct``."""
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def line(self) -> str:
        """The text up to the end of the line."""
        start, step = self.at, 1 << 16
        while True:
            piece = bytes(self.view[self.at : self.at + step])
            found = piece.find(b"\n")
            if found >= 0:
                self.at += found + 1
                return bytes(self.view[start : self.at - 1]).decode("latin-1")
            self.skip(max(1, len(piece)))

    # the stack

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise Refused("the stack is empty; the file is no pickle")
        return self.stack.pop()

    def pop_mark(self) -> list[Any]:
        """Everything above the last mark."""
        if not self.marks:
            raise Refused("no mark is set; the file is no pickle")
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def top(self, kind: type) -> Any:
        """The value on top of the stack, if it is a ``kind``."""
        value = self.stack[-1] if self.stack else None
        if not isinstance(value, kind):
            raise Refused(f"{told(value)} where a {kind.__name__} is to grow")
        return value

    # containers and memo

    def grow_list(self, items: list[Any]) -> None:
        self.top(list).extend([plain(item) for item in items])

    def grow_dict(self, items: list[Any]) -> None:
        target = self.top(dict)
        if len(items) % 2:
            raise Refused("a dict with a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            name = key.decode("utf-8", "replace") if isinstance(key, bytes) else key
            if not isinstance(name, str | int):
                raise Refused(f"a dict with {told(key)} as a key")
            target[name] = plain(value)

    def remember(self, slot: int) -> None:
        if not self.stack:
            raise Refused("nothing to remember; the file is no pickle")
        if isinstance(self.stack[-1], Pending):
            self.stack[-1].slots.append(slot)
        self.memo[slot] = self.stack[-1]

    def recall(self, slot: int) -> None:
        if slot not in self.memo:
            raise Refused(f"memo {slot} is asked for before it is set; the file is no pickle")
        self.push(self.memo[slot])

    # names and calls

    def name(self, module: Any, name: Any) -> None:
        whole = f"{word(module)}.{word(name)}"
        if whole not in ALLOWED:
            raise Refused(f"it asks for {whole[:200]!r}")
        self.push(Name(whole))

    def reduce(self) -> None:
        """Answer the call of a name with data."""
        arguments, called = self.pop(), self.pop()
        if not isinstance(called, Name) or not isinstance(arguments, tuple):
            raise Refused(f"a call of {told(called)} with {told(arguments)}")
        answer = CALLS.get(called.name.rpartition(".")[2])
        if answer is None:
            raise Refused(f"it calls {called.name!r}")
        self.push(self.pay_for(answer(arguments)))

    def build(self) -> None:
        """Give an array or a dtype its state."""
        state, target = self.pop(), self.pop()
        if isinstance(target, DType):
            target.set(state)
            self.push(target)
        elif isinstance(target, Pending):
            array = self.pay_for(array_of_state(state))
            for slot in target.slots:
                self.memo[slot] = array
            self.push(array)
        else:
            raise Refused(f"it sets the state of {told(target)}")

    def pay_for(self, made: Any) -> Any:
        """What a call made, if the file is large enough for as many copies of its content."""
        self.left -= size_of_copy(made)
        if self.left < 0:
            raise Refused("it makes the same content again and again")
        return made

    def blob(self, n: int) -> None:
        """Bytes; many of them stay in the file."""
        place = self.skip(n)
        self.push(bytes(self.view[place]) if n <= _SMALL else self.raw[place])


# -- the opcodes that make data --------------------------------------------------------------------


def _text(m: _Machine, n: int) -> None:
    m.push(m.take(n).decode("utf-8", "surrogatepass"))


def _quoted(m: _Machine) -> None:
    """Text of Python 2 in protocol 0: quoted, with the escapes that it writes."""
    line = m.line()
    if not _QUOTED.fullmatch(line) or line[0] != line[-1]:
        raise Refused("text without its quotes")
    m.push(line[1:-1].encode("ascii").decode("unicode-escape").encode("latin-1"))


def _whole(m: _Machine) -> None:
    """A number in digits; 00 and 01 are False and True."""
    digits = m.line().removesuffix("L")
    m.push({"00": False, "01": True}[digits] if digits in ("00", "01") else int(digits))


def _long(m: _Machine, n: int) -> None:
    if n < 0:
        raise Refused("a number of less than no bytes")
    m.push(int.from_bytes(m.take(n), "little", signed=True))


def _tuple(m: _Machine, n: int) -> None:
    items = [m.pop() for _ in range(n)]
    m.push(tuple_of(items[::-1]))


def _list(m: _Machine) -> None:
    items = m.pop_mark()
    m.push([])
    m.grow_list(items)


def _dict(m: _Machine) -> None:
    items = m.pop_mark()
    m.push({})
    m.grow_dict(items)


def _setitem(m: _Machine) -> None:
    value, key = m.pop(), m.pop()
    m.grow_dict([key, value])


def _append(m: _Machine) -> None:
    value = m.pop()
    m.grow_list([value])


def _global(m: _Machine) -> None:
    module = m.line()
    m.name(module, m.line())


def _instance(m: _Machine) -> None:
    _global(m)
    raise Refused(f"it makes an instance of {m.pop().name!r}")


def _stack_global(m: _Machine) -> None:
    name, module = m.pop(), m.pop()
    m.name(module, name)


def _opcode(code: bytes) -> str:
    """How messages call an opcode."""
    from pickletools import opcodes

    names = [known.name for known in opcodes if known.code == code.decode("latin-1")]
    return f"opcode {names[0]}" if names else f"byte {code!r} (no opcode)"


def _pop_or_mark(m: _Machine) -> None:
    if m.marks and m.marks[-1] == len(m.stack):
        m.marks.pop()
    else:
        m.pop()


_OPCODES: dict[bytes, Callable[[_Machine], Any]] = {
    pickle.PROTO: lambda m: m.skip(1),
    pickle.FRAME: lambda m: m.skip(8),
    pickle.NONE: lambda m: m.push(None),
    pickle.NEWTRUE: lambda m: m.push(True),
    pickle.NEWFALSE: lambda m: m.push(False),
    pickle.INT: _whole,
    pickle.LONG: _whole,
    pickle.BININT: lambda m: m.push(m.number("<i")),
    pickle.BININT1: lambda m: m.push(m.number("<B")),
    pickle.BININT2: lambda m: m.push(m.number("<H")),
    pickle.LONG1: lambda m: _long(m, m.number("<B")),
    pickle.LONG4: lambda m: _long(m, m.number("<i")),
    pickle.FLOAT: lambda m: m.push(float(m.line())),
    pickle.BINFLOAT: lambda m: m.push(m.number(">d")),
    pickle.UNICODE: lambda m: m.push(m.line().encode("latin-1").decode("raw-unicode-escape")),
    pickle.SHORT_BINUNICODE: lambda m: _text(m, m.number("<B")),
    pickle.BINUNICODE: lambda m: _text(m, m.number("<I")),
    pickle.BINUNICODE8: lambda m: _text(m, m.number("<Q")),
    pickle.STRING: _quoted,
    pickle.SHORT_BINSTRING: lambda m: m.blob(m.number("<B")),
    pickle.BINSTRING: lambda m: m.blob(m.number("<I")),
    pickle.SHORT_BINBYTES: lambda m: m.blob(m.number("<B")),
    pickle.BINBYTES: lambda m: m.blob(m.number("<I")),
    pickle.BINBYTES8: lambda m: m.blob(m.number("<Q")),
    pickle.BYTEARRAY8: lambda m: m.blob(m.number("<Q")),
    pickle.EMPTY_TUPLE: lambda m: m.push(()),
    pickle.TUPLE: lambda m: m.push(tuple_of(m.pop_mark())),
    pickle.TUPLE1: lambda m: _tuple(m, 1),
    pickle.TUPLE2: lambda m: _tuple(m, 2),
    pickle.TUPLE3: lambda m: _tuple(m, 3),
    pickle.EMPTY_LIST: lambda m: m.push([]),
    pickle.LIST: _list,
    pickle.APPEND: _append,
    pickle.APPENDS: lambda m: m.grow_list(m.pop_mark()),
    pickle.EMPTY_DICT: lambda m: m.push({}),
    pickle.DICT: _dict,
    pickle.SETITEM: _setitem,
    pickle.SETITEMS: lambda m: m.grow_dict(m.pop_mark()),
    pickle.MARK: lambda m: m.marks.append(len(m.stack)),
    pickle.POP: _pop_or_mark,
    pickle.POP_MARK: lambda m: m.pop_mark(),
    pickle.DUP: lambda m: m.stack.extend([m.pop()] * 2),
    pickle.PUT: lambda m: m.remember(int(m.line())),
    pickle.BINPUT: lambda m: m.remember(m.number("<B")),
    pickle.LONG_BINPUT: lambda m: m.remember(m.number("<I")),
    pickle.MEMOIZE: lambda m: m.remember(len(m.memo)),
    pickle.GET: lambda m: m.recall(int(m.line())),
    pickle.BINGET: lambda m: m.recall(m.number("<B")),
    pickle.LONG_BINGET: lambda m: m.recall(m.number("<I")),
    pickle.GLOBAL: _global,
    pickle.STACK_GLOBAL: _stack_global,
    pickle.INST: _instance,
    pickle.REDUCE: lambda m: m.reduce(),
    pickle.BUILD: lambda m: m.build(),
}
