"""Nothing that is loaded is run: the source names no way to run what a file or a name says."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import mmer_lib

LIBRARY = Path(mmer_lib.__file__).parent
# Calls and modules that run, or may run, what they are given.
MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "marshal", "shelve", "joblib",
           "yaml", "code", "codeop", "runpy", "jsonpickle"}  # fmt: skip
BUILTINS = {"eval", "exec", "compile", "__import__"}
METHODS = {  # by the end of the dotted name
    "torch.load", "np.load", "numpy.load", "pd.read_pickle", "pd.read_hdf", "pd.eval",
    "joblib.load", "yaml.load", "os.system", "os.popen", "np.fromfile", "np.loadtxt",
    "np.genfromtxt", "importlib.import_module", "import_module", "hub.load", "torch.jit.load",
    "torch.package", "np.memmap", "ctypes.CDLL", "subprocess.getoutput",
}  # fmt: skip
# Module -> what it may use -> why.
ALLOWED = {
    "workers": {"pickle": "pipes between this process and those it started itself"},
    "corpora.unpickle": {
        "pickle": "names of opcodes; nothing of it is called",
        "np.memmap": "the bytes of the file, as uint8",
    },
    "features.checkpoints": {"pickle": "the exception that torch's weights_only reader raises"},
    "distributed.team": {"pickle": "Dask's wire, between machines that trust each other"},
    "distributed.worker": {"pickle": "Dask's wire, between machines that trust each other"},
    "probes": dict.fromkeys(
        ("import_module", "importlib.import_module"),
        "names of modules that stand in its own source",
    ),
    "store": {"numpy.load": "that of safetensors, which holds nothing but tensors"},
    "features.decoding": {"np.fromfile": "the bytes of a picture, as uint8"},
    "corpora.media": {"np.load": "of offsets that it wrote itself; pickles are refused by default"},
    "bench.sweeps": {"__import__": "names of modules that stand in its own source"},
    "corpora.staged.voice": {"ctypes.CDLL": "the library of eSpeak NG, of an installed package"},
}
FILES = {
    ".".join(file.relative_to(LIBRARY).with_suffix("").parts): file
    for file in sorted(LIBRARY.rglob("*.py"))
}


def used(source: str) -> set[str]:
    """The dangerous names that a module imports or calls."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {a.name.split(".")[0] for a in node.names} & MODULES
        elif isinstance(node, ast.ImportFrom):
            module = str(node.module)
            found |= {module.split(".")[0]} & MODULES
            found |= {f"{module.split('.')[-1]}.{a.name}" for a in node.names} & METHODS
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            found |= {name} & BUILTINS
            found |= {m for m in METHODS if name == m or name.endswith(f".{m}")}
            if any(_says_true(k, "allow_pickle", "trust_remote_code") for k in node.keywords):
                found.add("allow_pickle")
            if any(_says_true(k, "shell") for k in node.keywords):
                found.add("shell=True")
        if isinstance(node, ast.Name) and node.id in BUILTINS - {"compile"}:
            found.add(node.id)
    return found


def _says_true(keyword: ast.keyword, *names: str) -> bool:
    """Whether an argument is anything but a plain False."""
    plain = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
    return keyword.arg in names and not plain


@pytest.mark.parametrize("name", FILES)
def test_a_module_uses_nothing_that_runs_what_it_reads(name):
    assert used(FILES[name].read_text(encoding="utf-8")) <= ALLOWED.get(name, {}).keys()


@pytest.mark.parametrize("name", ALLOWED)
def test_no_exception_is_left_that_nobody_needs(name):
    assert used(FILES[name].read_text(encoding="utf-8")) == ALLOWED[name].keys()


SEEN = {
    "import pickle": "pickle",
    "from pickle import loads": "pickle",
    "import joblib.externals": "joblib",
    "def f():\n    import marshal": "marshal",
    "x = eval('1')": "eval",
    "run = exec": "exec",
    "torch.load(f)": "torch.load",
    "np.load(f, allow_pickle=True)": "np.load",
    "np.load(f, allow_pickle=True) ": "allow_pickle",
    "load(f, allow_pickle=given)": "allow_pickle",
    "from torch import load": "torch.load",
    "pd.read_pickle(f)": "pd.read_pickle",
    "yaml.load(f)": "yaml.load",
    "subprocess.run(x, shell=True)": "shell=True",
    "model(x, trust_remote_code=True)": "allow_pickle",
    "importlib.import_module(name)": "importlib.import_module",
}


@pytest.mark.parametrize("source", SEEN)
def test_the_rule_sees_what_it_is_there_for(source):
    assert SEEN[source] in used(source)


@pytest.mark.parametrize(
    "source",
    ["model.eval()", "re.compile('a')", "torch.compile(m)", "load(f, allow_pickle=False)"],
)
def test_the_rule_lets_plain_things_through(source):
    assert used(source) == set()


def test_pickle_is_imported_by_the_unpickler_for_its_opcodes_alone():
    """Whatever it takes of the module is a constant of one byte."""
    import pickle

    tree = ast.parse(FILES["corpora.unpickle"].read_text(encoding="utf-8"))
    taken = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pickle"
    }
    assert len(taken) > 50
    assert all(isinstance(getattr(pickle, name), bytes) for name in taken)


def test_networks_are_read_by_torch_without_running_anything():
    """Weights that are pickles go through torch's own reader of plain tensors; code never comes."""
    tree = ast.parse(FILES["features.checkpoints"].read_text(encoding="utf-8"))
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call)]
    loads = [c for c in calls if ast.unparse(c.func).endswith("from_pretrained")]
    assert loads
    for call in loads:
        given = {k.arg: ast.unparse(k.value) for k in call.keywords}
        assert given["trust_remote_code"] == "False", ast.unparse(call)
    models = [c for c in loads if ast.unparse(c.func) == "AutoModel.from_pretrained"]
    assert models
    assert all("weights_only=True" in ast.unparse(call) for call in models)
