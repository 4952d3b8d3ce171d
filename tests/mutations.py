"""Valid files, spoilt: what a hostile or damaged file looks like, one change at a time.

An input of a reader is ``Files``: names and contents of a folder. ``mutate`` changes a copy of it
in one to three places, in ways that fit the kind of the file: an ``.npy`` keeps a header that can
be read but says something else, a pickle is changed by its opcodes, a table by its cells. Every
choice comes from a ``random.Random``, so that a seed gives the same input again, and hypothesis,
which has such an object of its own, can make a failing input smaller.
"""

from __future__ import annotations

import io
import json
import pickletools
import re
import struct
import zipfile
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any

import numpy as np

Files = dict[str, bytes]

NUMBERS = (
    "0", "1", "-1", "2", "3", "7", "255", "-0", "0.0", "1.5", "-2.5", "1e5", "1e308", "1e400",
    "-1e400", "nan", "NaN", "inf", "-Infinity", "Infinity", "true", "null", "None", "",
    str(2**31 - 1), str(2**31), str(2**32), str(2**63 - 1), str(2**63), str(2**64), str(-(2**63)),
    str(10**12), str(10**30), "9" * 5000, "٣", "1_0", "0x10", "1,5", "\u00b2", "--1", "1e-400",
)  # fmt: skip
TEXTS = (
    "", " ", "a", "\u202egnp.exe", "\ufeff", "\0", "\x1b[31m", "\x1b]0;title\x07", "\r", "\n",
    "\r\n", "\u2028", "\x85", "e\u0301", "é", "../../../etc/passwd", "/etc/passwd", "..", ".",
    "C:\\x", "\\\\host\\share", "=1+1", "<script>alert(1)</script>", "{{7*7}}", "%s%n", '"', "'",
    '""', ",", ";", "\t", "nan", "NA", "None", "null", "train", "test", "🙂", "ﷺ" * 50, "a" * 300,
    "b" * 70_000, "x" * 200_000, " " * 20_000 + "x", "Ses01F_impro01_F000", "audio", "id", "label",
    "content", "\ud800", "\\ud800", "\\u0000", "__class__", "$(touch x)", "`touch x`", "a/b", "~",
)  # fmt: skip
DTYPES = (
    "<f4", "<f8", "<f2", ">f4", "<i8", "<i4", ">i8", "|i1", "|u1", "<u8", "|b1", "<U3", "|S3",
    "<c8", "<M8[s]", "<m8[s]", "<g", "|V4",
)  # fmt: skip
DESCRIPTIONS = (
    "'|O'", "'O8'", "'<f9999'", "'<U0'", "'<U2147483647'", "'|V0'", "'V2147483647'",
    "[('a','<f4')]",
    "('<f4',(2,))", "('<f4',(2147483647,))", "[('a','|O')]", "''", "1", "None", "'<f4'", "'<i8'",
    "'f4,f4'", "{'names':['a'],'formats':['O']}", "'\\x00'", "'<f3'", "'>U2'", "b'<f4'", "[]",
)  # fmt: skip
SHAPES = (
    "()", "(0,)", "(-1,)", "(1,)", "(True,)", "(1.0,)", "('1',)", "[2,3]", "5", "None", "(0,0)",
    "(0,99999999999)", "(99999999999,0)", "(99999999999999999999,)", "(4611686018427387904,4)",
    "(2,3,4,5)", "(1,)*40", "(1000000000000,)", "(3,1000000000000,0)", "(1," * 100 + ")" * 100,
    "(1L,2L)", "(" * 3000 + ")" * 3000, "(2,3", "(10**9,)", "(1,1,1,1,1,1,1)", "(2147483648,2)",
)  # fmt: skip


def mutate(files: Files, choose: Random) -> Files:
    """A copy of ``files`` with one to three changes."""
    changed = dict(files)
    for _ in range(choose.choice((1, 1, 1, 2, 3))):
        name = choose.choice(sorted(changed))
        roll = choose.randrange(40)
        if roll == 0 and len(changed) > 1:
            del changed[name]
        elif roll == 1:
            changed[name] = b""
        elif roll == 2:
            other = choose.choice(sorted(changed))
            changed[name], changed[other] = changed[other], changed[name]
        else:
            changed[name] = spoil(name, changed[name], choose)
    return changed


def spoil(name: str, content: bytes, choose: Random) -> bytes:
    """One file's content with one change, of its kind or of bytes."""
    kind = _KINDS.get(name.rpartition(".")[2])
    if kind is not None and choose.randrange(4):
        with suppress(Exception):  # what was spoilt before may be of no kind any more
            return kind(content, choose)
    return spoil_bytes(content, choose)


# -- bytes and text --------------------------------------------------------------------------------


def spoil_bytes(content: bytes, choose: Random) -> bytes:
    """Flipped, cut, inserted, repeated, moved."""
    if not content:
        return choose.choice((b"\0", b"{}", b"PK\x03\x04", b"\x93NUMPY", b"\x80\x04.", b"\xff\xfe"))
    data, at = bytearray(content), choose.randrange(len(content))
    match choose.randrange(9):
        case 0:
            data[at] ^= 1 << choose.randrange(8)
        case 1:
            data[at] = choose.choice((0, 1, 0x7F, 0x80, 0xFF))
        case 2:
            del data[at:]
        case 3:
            del data[at : at + choose.randrange(1, 9)]
        case 4:
            data[at:at] = bytes(choose.randrange(256) for _ in range(choose.randrange(1, 9)))
        case 5:
            data[at:at] = data[at : at + choose.randrange(1, 65)] * choose.choice((1, 2, 100))
        case 6:
            size = choose.choice((2, 4, 8))
            data[at : at + size] = choose.choice((b"\xff", b"\0", b"\x7f")) * size
        case 7:
            data[:0] = choose.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\n", b"\0"))
        case _:
            other = choose.randrange(len(content))
            data[at], data[other] = data[other], data[at]
    return bytes(data)


_TOKEN = re.compile(rb"-?\d+(?:\.\d+)?|\w+")


def spoil_text(content: bytes, choose: Random) -> bytes:
    """A token, a line, the ends of lines or a mark changed."""
    match choose.randrange(8):
        case 0:
            return content.replace(b"\r\n", b"\n").replace(
                b"\n", choose.choice((b"\r\n", b"\r", b"\n\n", b"\xe2\x80\xa8"))
            )
        case 1:
            return choose.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")) + content
        case 2:
            lines = content.splitlines(keepends=True) or [b""]
            at = choose.randrange(len(lines))
            lines[at : at + choose.randrange(2)] = [lines[choose.randrange(len(lines))]] * (
                choose.choice((1, 1, 2, 50))
            )
            return b"".join(lines)
        case 3:
            text = content.decode("utf-8", "replace")
            return text.encode(choose.choice(("utf-16", "utf-16-le", "latin-1")), "replace")
        case _:
            found = list(_TOKEN.finditer(content))
            if not found:
                return spoil_bytes(content, choose)
            token = choose.choice(found)
            new = choose.choice(NUMBERS if choose.randrange(2) else TEXTS)
            return content[: token.start()] + _encoded(new) + content[token.end() :]


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def spoil_csv(content: bytes, choose: Random) -> bytes:
    """Cells and columns changed; a cell may grow, move, or be there once more."""
    if not choose.randrange(3):
        return spoil_text(content, choose)
    lines = content.split(b"\n")
    at = choose.randrange(len(lines))
    cells = lines[at].split(b",")
    place, other = choose.randrange(len(cells)), choose.randrange(len(cells))
    match choose.randrange(6):
        case 0:
            cells[place] = _encoded(choose.choice(TEXTS))
        case 1:
            cells[place] = _encoded(choose.choice(NUMBERS))
        case 2:
            cells[place], cells[other] = cells[other], cells[place]
        case 3:
            cells.append(cells[place])
        case 4:
            del cells[place]
        case _:
            text = choose.choice(TEXTS).replace('"', '""')
            cells[place] = b'"' + _encoded(text) + b'"'
    lines[at] = b",".join(cells)
    if not choose.randrange(8):  # the same in every line: a column more, or less
        lines = [line + b"," if line.strip() else line for line in lines]
    return b"\n".join(lines)


def spoil_json(content: bytes, choose: Random) -> bytes:
    """Values replaced, keys doubled, deep nesting; what json itself would not write, too."""
    if not choose.randrange(4):
        return spoil_text(content, choose)
    value = json.loads(content)
    if not choose.randrange(6):
        text = json.dumps(value)
        at = choose.randrange(len(text))
        deep = choose.choice(("[" * 100_000, '{"a":' * 50_000, "[" * 500 + "]" * 500))
        keys = re.findall(r'"(\w+)": ', text) or ["a"]
        twice = f'"{choose.choice(keys)}": {choose.choice(("null", "1", "{}", "[]"))}, '
        return choose.choice(
            (text[:at] + deep, text.replace("{", "{" + twice, 1), deep, f"{text} {text}")
        ).encode()
    holder, key = _place_in(value, choose)
    if holder is None:
        return json.dumps(_odd_value(choose)).encode()
    if not choose.randrange(6):
        del holder[key]
    else:
        holder[key] = _odd_value(choose)
    return json.dumps(value).encode()


def _place_in(value: Any, choose: Random) -> tuple[Any, Any]:
    """A container anywhere in ``value`` and a key or index of it."""
    holder, key = None, None
    while isinstance(value, dict | list) and value:
        keys = sorted(value, key=str) if isinstance(value, dict) else range(len(value))
        holder, key = value, choose.choice(list(keys))
        value = value[key]
        if not choose.randrange(3):
            break
    return holder, key


def _odd_value(choose: Random) -> Any:
    return choose.choice(
        (
            None, True, 0, -1, 1.5, 10**30, 2**63, float("nan"), float("inf"), "", [], {}, [[]],
            [None], {"a": None}, {"": {}}, [1, "2"], "1", *choose.choices(TEXTS, k=2),
            [choose.choice(TEXTS)], 10**400, -(2**63) - 1,
        )
    )  # fmt: skip


# -- arrays ----------------------------------------------------------------------------------------


def spoil_npy(content: bytes, choose: Random) -> bytes:
    """Another header over the same content, other values, another array."""
    match choose.randrange(4):
        case 0:
            return _another_header(content, choose)
        case 1:
            return _another_array(content, choose)
        case _:
            return _other_values(content, choose)


def _another_header(content: bytes, choose: Random) -> bytes:
    header, start = read_header(content)
    version = choose.choice((1, 1, 1, 2, 3))
    fields = {
        "descr": repr(header["descr"]),
        "fortran_order": str(header["fortran_order"]),
        "shape": repr(header["shape"]),
    }
    match choose.randrange(6):
        case 0 | 1:
            fields["descr"] = choose.choice((*DESCRIPTIONS, *map(repr, DTYPES)))
        case 2 | 3:
            fields["shape"] = choose.choice(SHAPES)
        case 4:
            fields["fortran_order"] = choose.choice(("True", "1", "None", "'x'", "[]"))
        case _:
            del fields[choose.choice(sorted(fields))]
    text = "{" + ", ".join(f"'{name}': {value}" for name, value in fields.items()) + ", }"
    if not choose.randrange(10):
        text = choose.choice(("", "[]", "x", text + "#", text * 2, " " * 20_000, "{" * 5000, "é"))
    return with_header(text, content[start:], version)


def read_header(content: bytes) -> tuple[dict[str, Any], int]:
    """What the header of an ``.npy`` says, and where the numbers begin."""
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, fortran, dtype = read(stream)
    described = np.lib.format.dtype_to_descr(dtype)
    return {"descr": described, "fortran_order": fortran, "shape": shape}, stream.tell()


def with_header(text: str, data: bytes, version: int = 1) -> bytes:
    """An ``.npy`` of any header text, its length as stated."""
    written = text.encode("utf-8" if version == 3 else "latin-1", "replace") + b"\n"
    length = struct.pack("<H" if version == 1 else "<I", len(written) & 0xFFFF)
    return b"\x93NUMPY" + bytes((version, 0)) + length + written + data


def _load(content: bytes) -> np.ndarray:
    array: np.ndarray = np.load(io.BytesIO(content), allow_pickle=False)
    return array


def _dump(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)  # a file of others may hold a pickle
    return stream.getvalue()


def _another_array(content: bytes, choose: Random) -> bytes:
    array = _load(content)
    with np.errstate(all="ignore"):
        match choose.randrange(8):
            case 0:
                array = array.astype(choose.choice(DTYPES))
            case 1:
                array = array.reshape(-1)
            case 2:
                array = array[..., None]
            case 3:
                array = array[: choose.randrange(len(array) + 1)]
            case 4:
                array = np.concatenate([array, array[: choose.randrange(1, 3)]])
            case 5:
                array = np.asfortranarray(array)
            case 6:
                array = array.astype(object)
            case _:
                array = array[..., : choose.randrange(array.shape[-1] + 1)]
    return _dump(array)


def _other_values(content: bytes, choose: Random) -> bytes:
    array = _load(content).copy()
    if not array.size:
        return _another_array(content, choose)
    at = choose.randrange(array.size)
    flat = array.reshape(-1)
    if array.dtype.kind == "f":
        flat[at] = choose.choice((np.nan, np.inf, -np.inf, 0, 1e30, -1, np.finfo(array.dtype).max))
    elif array.dtype.kind in "iu":
        limits = np.iinfo(array.dtype)
        flat[at] = choose.choice((limits.min, limits.max, 0, 1, limits.max // 2, limits.max - 1))
    elif array.dtype.kind == "U":
        raw = flat.view("u4")
        if len(raw):
            raw[choose.randrange(len(raw))] = choose.choice(
                (0, 0xD800, 0x110000, 0xFFFFFFFF, 10, 13, 27)
            )
    return _dump(array)


def spoil_npz(content: bytes, choose: Random) -> bytes:
    """Members changed as arrays are, left out, renamed, doubled; the archive itself forged."""
    members = read_members(content)
    name = choose.choice(sorted(members))
    match choose.randrange(10):
        case 0:
            del members[name]
        case 1:
            members[choose.choice(("x", name[:-4], "../x.npy", "a/b.npy", ""))] = members.pop(name)
        case 2:
            other = choose.choice(sorted(members))
            members[name], members[other] = members[other], members[name]
        case 3:
            members[name] = spoil_bytes(members[name], choose)
        case 4:
            return _forge_archive(write_members(members), choose)
        case _:
            members[name] = spoil_npy(members[name], choose)
    ways = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2)
    return write_members(members, choose.choice((ways[0], *ways)))


def read_members(content: bytes) -> Files:
    """The members of a zip by name."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_members(members: Files, way: int = zipfile.ZIP_STORED) -> bytes:
    """A zip of ``members``; their times are fixed, so that it is the same again."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", way) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, way)
    return stream.getvalue()


def _forge_archive(content: bytes, choose: Random) -> bytes:
    """A field of a zip's directory changed: flags, method, sizes, places."""
    data = bytearray(content)
    found = [m.start() for m in re.finditer(b"PK\x01\x02", content)]
    at = choose.choice(found)
    offset, size = choose.choice(((8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (42, 4)))
    value = choose.choice((1, 8, 9, 12, 14, 93, 99, 0xFFFF, 0xFFFFFFFF, 0x7FFFFFFF))
    data[at + offset : at + offset + size] = (value & (256**size - 1)).to_bytes(size, "little")
    return bytes(data)


# -- pickles and safetensors -----------------------------------------------------------------------

SNIPPETS = (
    b"0", b"2", b"]", b"}", b")", b"(", b"t", b"\x85", b"\x86", b"\x87", b"a", b"e", b"s", b"u",
    b"N", b"\x88", b"K\x05", b"J\xff\xff\xff\xff", b"\x8a\x09" + b"\xff" * 8 + b"\x7f", b"R", b"b",
    b"\x94", b"h\x00", b"h\x01", b"q\x07", b"\x8c\x04code", b"C\x02ab", b"G\x7f\xf8" + bytes(6),
    b"X\xff\xff\xff\x7f", b"\x8e" + b"\xff" * 7 + b"\x7f", b"\x96" + b"\xff" * 8,
    b"Nr\xff\xff\xff\xff",
    b"cnumpy\nndarray\n", b"cnumpy\ndtype\n", b"cnumpy.core.multiarray\n_reconstruct\n",
    b"cnumpy.core.multiarray\nscalar\n", b"c_codecs\nencode\n", b"cbuiltins\nbytes\n",
    b"ccollections\nOrderedDict\n", b"cos\nsystem\n", b"cbuiltins\neval\n", b"\x8b\x00\x10\x00\x00",
    b"I" + b"9" * 4000 + b"\n", b"I01\n", b"L5L\n", b"F1e999\n", b"S'a\\x'\n", b"V\\ud800\n",
    b"\x95" + b"\xff" * 8, b"\x8a\x20" + b"\x7f" * 32,
)  # fmt: skip
_DOUBLED = b"".join(b"\x94h%ch%c\x86" % (n, n) for n in range(1, 60))
BOMBS = (  # opcodes alone: nested deeply, a tree of 2^60 leaves, marks, tuples in tuples
    b"]" * 5000 + b"a" * 4999,
    b")\x94h\x00h\x00\x86" + _DOUBLED,
    b"(" * 5000,
    b")" + b"\x85" * 5000,
)


def spoil_pickle(content: bytes, choose: Random) -> bytes:
    """Opcodes left out, doubled, moved and put in; numbers in them changed."""
    places = [place for _, _, place in pickletools.genops(content)]
    ops = [content[a:b] for a, b in zip(places, [*places[1:], len(content)], strict=True)]
    for _ in range(choose.choice((1, 1, 1, 2))):
        at, other = choose.randrange(len(ops)), choose.randrange(len(ops))
        match choose.randrange(8):
            case 0:
                del ops[at]
                ops = ops or [b"."]
            case 1:
                ops[at], ops[other] = ops[other], ops[at]
            case 2:
                ops.insert(at, ops[other])
            case 3 | 4:
                ops.insert(at, choose.choice(SNIPPETS))
            case 5:
                ops[at] = choose.choice(SNIPPETS)
            case 6:
                ops[at] = ops[at][:1] + spoil_bytes(ops[at][1:], choose)
            case _:
                ops.insert(at, choose.choice(BOMBS))
    return b"".join(ops)


def spoil_safetensors(content: bytes, choose: Random) -> bytes:
    """Another header over the same numbers."""
    length = struct.unpack("<Q", content[:8])[0]
    header = spoil_json(content[8 : 8 + length], choose)
    stated = len(header) if choose.randrange(6) else choose.choice((0, 1, 2**63, 2**40, 10**8))
    return struct.pack("<Q", stated) + header + content[8 + length :]


_KINDS: dict[str, Callable[[bytes, Random], bytes]] = {
    "txt": spoil_text, "csv": spoil_csv, "json": spoil_json, "ipynb": spoil_json,
    "npy": spoil_npy, "npz": spoil_npz, "pkl": spoil_pickle, "safetensors": spoil_safetensors,
    "py": spoil_text, "arg": spoil_text,
}  # fmt: skip
