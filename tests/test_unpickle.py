"""Pickles of others: plain data is read as pickle reads it, and a hostile file runs nothing."""

from __future__ import annotations

import os
import pickle
import pickletools
import struct
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmer_lib.corpora.rebuild import ALLOWED
from mmer_lib.corpora.unpickle import load_plain
from mmer_lib.errors import InputError

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def write(path: Path, content: Any, protocol: int = 4) -> Path:
    file = path / "data.pkl"
    file.write_bytes(pickle.dumps(content, protocol))
    return file


def refused(file: Path, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        load_plain(file)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


# -- the reader: what is let in --------------------------------------------------------------------

PLAIN = {
    "numbers": [0, 1, -1, 255, 65536, 2**31, -(2**63), 10**40, 2.5, -0.0, True, False, None],
    "text": ["", "plain", "cöd€ 😀", "line\nbreak", "back\\slash", "'", '"'],
    "nested": {"a": [{"b": ()}, (1,), (1, 2), (1, 2, 3), (1, 2, 3, (4,))]},
    "ordered": OrderedDict(a=1, b=[2]),
    "bytes": [b"", b"\x00\xff\n"],
    "C": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "F": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "turned": np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
    "strided": np.arange(12, dtype=np.int16).reshape(3, 4)[:, ::2],
    "big-endian": np.arange(3, dtype=">i4"),
    "truth": np.array([True, False]),
    "long": np.arange(3000.0),
    "none": np.zeros((0, 3)),
    "point": np.array(3.5),
    "words": np.array(["ab", "cöd"]),
    "objects": np.array(["x", None, 3, 2.5, "longer"], dtype=object),
    "scalars": [np.float32(2.5), np.int64(-3), np.str_("word"), np.str_("")],
}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("what", PLAIN)
def test_plain_data_is_what_pickle_itself_reads(tmp_path, what, protocol):
    file = write(tmp_path, PLAIN[what], protocol)
    assert same(PLAIN[what], load_plain(file))


def test_an_array_that_is_named_twice_is_one_array(tmp_path):
    array = np.arange(5.0)
    a, (b,) = load_plain(write(tmp_path, [array, (array,)]))
    assert a is b


def test_the_names_of_older_and_newer_numpy_are_the_same(tmp_path):
    content = pickle.dumps(np.arange(5.0), 3)
    other = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert other != content
    (tmp_path / "old.pkl").write_bytes(other)
    np.testing.assert_array_equal(load_plain(tmp_path / "old.pkl"), np.arange(5.0))


def test_a_pickle_of_python_2_is_read(tmp_path):
    content = (  # {'a': array([1., 2.])} in protocol 2 of Python 2
        b"\x80\x02}q\x00U\x01aq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\n"
        b"q\x03K\x00\x85U\x01b\x87Rq\x04(K\x01K\x02\x85cnumpy\ndtype\nq\x05U\x02f8K\x00K\x01\x87R"
        b"q\x06(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x10"
        + struct.pack("<2d", 1, 2)
        + b"tbs."
    )
    (tmp_path / "two.pkl").write_bytes(content)
    read = load_plain(tmp_path / "two.pkl")
    assert list(read) == ["a"]
    assert read["a"].tolist() == [1.0, 2.0]


def test_a_large_array_stays_in_the_file(tmp_path):
    read = load_plain(write(tmp_path, {"a": np.zeros(100_000)}))
    assert isinstance(read["a"], np.memmap)
    assert not read["a"].flags.writeable


# -- the reader: what is not -----------------------------------------------------------------------


class Call:
    """Pickles as a call of ``function``, as every hostile pickle does."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.answer = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.answer


class Named:
    """Pickles as a global of any name, whether there is one or not."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


def assemble(*parts: Any) -> bytes:
    """A pickle written by hand: opcodes as bytes, everything else as ``pickle`` writes it."""
    made = b"\x80\x04"
    for part in parts:
        if isinstance(part, bytes):
            made += part
        elif isinstance(part, Named):
            made += f"c{part.module}\n{part.name}\n".encode()
        else:
            made += pickle.dumps(part, 2)[2:-1]
    return made + b"."


BAIT = "touch {}"  # what a hostile file would run


def touch(file: str) -> None:
    Path(file).touch()


RECONSTRUCT = np.zeros(1).__reduce__()[0]
OBJECTS = np.dtype("O").__reduce__()[1]


def hostile_calls(mark: str) -> dict[str, tuple[Any, str]]:
    """What a file may try to call -> the name that the refusal must show."""
    import builtins
    import codecs
    import copyreg
    import subprocess

    return {
        "os.system": (Call(os.system, BAIT.format(mark)), "posix.system"),
        "eval": (Call(builtins.eval, f"open({mark!r}, 'w')"), "eval"),
        "exec": (Call(builtins.exec, f"open({mark!r}, 'w')"), "exec"),
        "open": (Call(open, mark, "w"), "open"),
        "getattr": (Call(getattr, "text", "upper"), "getattr"),
        "import": (Call(__import__, "antigravity"), "__import__"),
        "subprocess": (Call(subprocess.Popen, ["touch", mark]), "Popen"),
        "numpy.load": (Call(np.load, mark), "numpy.load"),
        "numpy.save": (Call(np.save, mark, np.zeros(1)), "numpy.save"),
        "numpy.memmap": (Call(np.memmap, mark, "u1", "w+", 0, (1,)), "numpy.memmap"),
        "numpy.fromfile": (Call(np.fromfile, mark), "fromfile"),
        "copyreg._reconstructor": (Call(copyreg._reconstructor, Path, object, None),
                                   "_reconstructor"),
        "a class": (Call(Path, mark), "Path"),
        "inside a container": ({"train": [({"a": Call(touch, mark)},)]}, "touch"),
        "inside an array of objects": (np.array([1, Call(touch, mark)], dtype=object), "touch"),
        "as a key": ({Call(touch, mark): 1}, "touch"),
        "as the state of an array": (
            Call(RECONSTRUCT, np.ndarray, (0,), b"b", state=Call(touch, mark)), "touch"),
        "as the class of an array": (Call(RECONSTRUCT, Path, (0,), b"b"), "Path"),
        "another codec": (Call(codecs.encode, "text", "rot13"), "rot13"),
        "bytes of many zeros": (Call(bytes, 10**12), "bytes"),
        "an object of its own": (Named("a", "b"), ""),
    }  # fmt: skip


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("what", hostile_calls(""))
def test_a_hostile_call_is_refused_by_name_and_runs_nothing(tmp_path, what, protocol):
    mark = tmp_path / "mark"
    content, name = hostile_calls(str(mark))[what]
    refused(write(tmp_path, content, protocol), "is refused at byte", name)
    assert not mark.exists()


def test_the_same_calls_run_when_pickle_reads_them(tmp_path):
    """So that the tests above would fail if anything were run."""
    mark = tmp_path / "mark"
    content, _ = hostile_calls(str(mark))["os.system"]
    pickle.loads(pickle.dumps(content))
    assert mark.exists()


NAMES = [
    ("numpy", "load"), ("numpy", "f2py"), ("numpy.f2py", "compile"), ("numpy", "os.system"),
    ("numpy", "ndarray.tofile"), ("numpy.core.multiarray", "_reconstruct.__globals__"),
    ("numpy.testing._private.utils", "runstring"), ("numpy.testing", "measure"),
    ("numpy.lib.npyio", "load"), ("numpy.core.multiarray", "fromfile"), ("numpy", "ndarray\r"),
    ("numpy ", "ndarray"), ("NUMPY", "ndarray"), ("builtins", "getattr"), ("os", "system"),
    ("_codecs", "decode"), ("collections", "defaultdict"), ("torch._utils", "_rebuild_tensor_v2"),
    ("joblib.numpy_pickle", "NumpyArrayWrapper"), ("pandas", "read_pickle"),
    ("copyreg", "__newobj__"), ("copyreg", "_reconstructor"),
]  # fmt: skip


@pytest.mark.parametrize("opcode", ["GLOBAL", "STACK_GLOBAL", "INST"])
@pytest.mark.parametrize(("module", "name"), NAMES)
def test_only_exact_names_are_known(tmp_path, module, name, opcode):
    whole = f"{module}.{name}"
    assert whole not in ALLOWED
    lines = f"{module}\n{name}\n".encode()
    content = {
        "GLOBAL": b"c" + lines + b"(tR.",
        "STACK_GLOBAL": assemble(module, name, b"\x93", b"(tR"),
        "INST": b"(i" + lines + b".",
    }[opcode]
    (tmp_path / "x.pkl").write_bytes(content)
    refused(tmp_path / "x.pkl", "it asks for", repr(whole))


ARRAY = Named("numpy.core.multiarray", "_reconstruct")
NDARRAY, DTYPE = Named("numpy", "ndarray"), Named("numpy", "dtype")
EMPTY = (ARRAY, b"(", NDARRAY, (0,), b"C\x01b", b"tR")  # an array that waits for its state


def dtype(name: str, *state: Any) -> tuple[Any, ...]:
    """The opcodes of a dtype, with the state that follows."""
    return DTYPE, (name, False, True), b"R", *((state, b"b") if state else ())


def array(shape: Any, kind: tuple[Any, ...], data: Any) -> bytes:
    """A pickle of an array with the shape, dtype and content that are given."""
    content = (
        (data,) if not isinstance(data, bytes) else (b"B" + struct.pack("<I", len(data)) + data,)
    )
    return assemble(*EMPTY, b"(", 1, shape, *kind, False, *content, b"tb")


FLOAT = dtype("f8", 3, "<", None, None, None, -1, -1, 0)
FORGED = {
    # numpy's own dtype would take this: an array of objects whose bytes are used as addresses
    "flags that make bytes into objects": (
        array((1,), dtype("O8", 3, "|", None, None, None, -1, -1, 0), b"A" * 8), "1 objects"),
    "objects of another number": (
        array((10**9,), dtype("O8", 3, "|", None, None, None, -1, -1, 63), [1]),
        "1000000000 objects"),
    "a shape of 10^12 numbers": (array((10**12,), FLOAT, b"A" * 8), "8000000000000 expected"),
    "a shape beyond any number": (array((2**62, 8), FLOAT, b""), "an array of shape"),
    "a negative shape": (array((-1,), FLOAT, b"A" * 8), "an array of shape (-1,)"),
    "a shape of truth": (array((True,), FLOAT, b"A" * 8), "an array of shape (True,)"),
    "nothing, 10^12 times": (array((10**12,), dtype("V0"), b""), "dtype 'V0'"),
    "empty text, 10^12 times": (array((10**12,), dtype("U0"), b""), "with 0 bytes"),
    "too few bytes": (array((2,), FLOAT, b"A" * 8), "16 expected"),
    "too many bytes": (array((1,), FLOAT, b"A" * 16), "8 expected"),
    "a structured dtype": (
        array((1,), dtype("V8", 3, "|", None, ("a",), {"a": 1}, 8, 1, 0), b"A" * 8), "dtype 'V8'"),
    "fields in a plain dtype": (
        array((1,), dtype("f8", 3, "<", None, ("a",), {"a": 1}, 8, 1, 0), b"A" * 8),
        "plain numbers"),
    "a dtype by its class": (assemble(DTYPE, b"(", NDARRAY, b"tR"), "where a word is expected"),
    "a dtype that is not there": (array((1,), dtype("f3"), b"AAA"), "there is no dtype f3"),
    "text beyond Unicode": (array((1,), dtype("U1"), b"\xff\xff\xff\x7f"), "do not exist"),
    "a state of a state": (assemble(*EMPTY, b"(", *EMPTY, b"tb"), "before it has its content"),
    "an array without content": (assemble(*EMPTY), "where only data may be"),
    "a state for a list": (assemble([], {"a": 1}, b"b"), "sets the state of a list"),
    "a state for a name": (assemble(NDARRAY, {"a": 1}, b"b"), "sets the state of the name"),
    "a call of text": (assemble("text", (), b"R"), "a call of a str"),
    "a call of a class": (assemble(NDARRAY, (10**12,), b"R"), "it calls 'numpy.ndarray'"),
    "a name as data": (assemble([], NDARRAY, b"a"), "where only data may be"),
    "a name in a tuple as data": (assemble(NDARRAY, b"\x85"), "where only data may be"),
    "a list as a key": (assemble({}, [], 1, b"s"), "a dict with a list as a key"),
    "bytes of 10^12": (b"\x80\x04\x8e" + struct.pack("<Q", 10**12) + b"x.", "only 2 are left"),
    "an array of 10^12 bytes": (b"\x80\x05\x96" + struct.pack("<Q", 10**12) + b"x.", "are left"),
    "text of 10^18": (b"\x80\x04\x8d" + struct.pack("<Q", 10**18) + b"x.", "are left"),
    "a number of less than no bytes": (b"\x80\x02\x8b" + struct.pack("<i", -5) + b".", "less than"),
    "a memo far away": (b"\x80\x02Nr\xff\xff\xff\xffj\xfe\xff\xff\xff.", "before it is set"),
    "an extension": (b"\x80\x02\x82\x01.", "opcode EXT1"),
    "an object that is somewhere else": (b"\x80\x02Pname\n.", "opcode PERSID"),
    "a class made anew": (assemble(NDARRAY, (), b"\x81"), "opcode NEWOBJ"),
    "a set": (pickle.dumps({1}, 4), "opcode EMPTY_SET"),
    "a buffer that is somewhere else": (b"\x80\x05\x97.", "opcode NEXT_BUFFER"),
    "digits without end": (b"I" + b"9" * 10_000 + b"\n.", "opcode INT"),
    "text without quotes": (b"Sabc\n.", "text without its quotes"),
    "text with a call in it": (b"S'a' + f('\\q')\n.", "text without its quotes"),
    "an end before the end": (b"\x80\x04.", "the stack is empty"),
    "no mark": (b"\x80\x04t.", "no mark is set"),
    "no end": (pickle.dumps([1, 2], 4)[:-1], "cut short"),
    "a line without an end": (b"I12", "cut short"),
    "no pickle": (b"PK\x03\x04 an archive", "is refused"),
    "a web page": (b"<!doctype html><title>404</title>", "is refused"),
}  # fmt: skip


@pytest.mark.parametrize("what", FORGED)
def test_a_forged_pickle_is_refused(tmp_path, what):
    content, word = FORGED[what]
    (tmp_path / "x.pkl").write_bytes(content)
    refused(tmp_path / "x.pkl", word)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "x.pkl").touch()
    refused(tmp_path / "x.pkl", "is empty")


def test_a_file_cut_anywhere_is_refused(tmp_path):
    whole = pickle.dumps({"a": np.arange(3.0), "b": ["text"]}, 4)
    for length in range(1, len(whole)):
        file = tmp_path / f"{length}.pkl"
        file.write_bytes(whole[:length])
        refused(file, "is refused")


def test_nesting_without_end_is_no_matter(tmp_path):
    depth = 100_000
    (tmp_path / "x.pkl").write_bytes(b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b".")
    read, found = load_plain(tmp_path / "x.pkl"), 1
    while read:
        (read,), found = read, found + 1
    assert found == depth


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), protocol=st.sampled_from(PROTOCOLS))
def test_a_spoilt_file_is_read_or_refused_and_never_anything_else(tmp_path_factory, data, protocol):
    content = bytearray(
        pickle.dumps([PLAIN["nested"], PLAIN["objects"], PLAIN["turned"]], protocol)
    )
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=4))
    file = tmp_path_factory.mktemp("spoilt") / "x.pkl"
    file.write_bytes(bytes(content) or b".")
    with suppress(InputError):
        load_plain(file)


def test_every_opcode_is_known_or_refused_by_name(tmp_path):
    unknown = []
    for opcode in pickletools.opcodes:
        file = tmp_path / f"{opcode.name}.pkl"
        file.write_bytes(opcode.code.encode("latin-1") + bytes(8) + b"\n\n.")
        with pytest.raises(InputError) as caught:
            load_plain(file)
        if f"opcode {opcode.name} is not among" in str(caught.value):
            unknown.append(opcode.name)
    assert sorted(unknown) == [
        "ADDITEMS", "BINPERSID", "EMPTY_SET", "EXT1", "EXT2", "EXT4", "FROZENSET", "NEWOBJ",
        "NEWOBJ_EX", "NEXT_BUFFER", "OBJ", "PERSID", "READONLY_BUFFER",
    ]  # fmt: skip
