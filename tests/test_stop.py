"""Ctrl-C and SIGTERM: real commands, real signals; what is said, what is kept, what is left."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from test_pipeline import PARAMETERS, write_notebook

from mmer_lib import cli
from mmer_lib.book.build import _renamed_when_whole
from mmer_lib.cli import stop
from mmer_lib.corpora import load_corpus
from mmer_lib.store import ResultStore

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
ROOT = Path(cli.__file__).parents[2]
PATIENCE = 120.0  # seconds for what has to happen before a signal; far more than it takes
TO_PROCESS, TO_GROUP = os.kill, os.killpg  # as `kill` does it, and as a terminal does


def until(happened: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


STARTED: list[Command] = []


@pytest.fixture(autouse=True)
def _nothing_goes_on():
    yield
    for command in STARTED:
        if command.process.poll() is None:  # the test has failed
            os.killpg(command.process.pid, signal.SIGKILL)
            command.process.wait()
        shutil.rmtree(command.temporary, ignore_errors=True)
    STARTED.clear()


def _short_folder() -> Path:
    """For what is temporary: the path of a socket in it has 100 characters at most."""
    return Path(tempfile.mkdtemp(prefix="m-", dir="/tmp"))


@dataclass
class Command:
    """``mmer`` with ``arguments`` (or other Python code) in a process group of its own."""

    arguments: list[object]
    folder: Path
    code: str = "import sys; from mmer_lib.cli import main; sys.exit(main())"
    family: dict[int, psutil.Process] = field(default_factory=dict)
    temporary: Path = field(default_factory=_short_folder)

    def __post_init__(self) -> None:
        with (self.folder / "stdout").open("w") as out, (self.folder / "stderr").open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-c", self.code, *map(str, self.arguments)], cwd=self.folder,
                stdout=out, stderr=err, start_new_session=True,
                env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(self.temporary)},
            )  # fmt: skip
        STARTED.append(self)

    def told(self) -> str:
        """What is on standard error."""
        return (self.folder / "stderr").read_text(encoding="utf-8")

    def until(self, happened: Callable[[], object], what: str = "its work") -> None:
        """Wait until it is at work; remembers the processes that it has then."""
        until(lambda: happened() or self.process.poll() is not None, what)
        assert self.process.poll() is None, f"it ended too early: {self.told()}"
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.family |= {child.pid: child for child in children}

    def send(self, number: int, to: Callable[[int, int], None] = TO_GROUP, times: int = 1) -> None:
        """Send a signal, more than once as fast as it goes."""
        for _ in range(times):
            if self.process.poll() is None:
                to(self.process.pid, number)

    def ends(self) -> str:
        """Its last words, when it has ended as a stopped command must: none of it is left."""
        status = self.process.wait(timeout=PATIENCE)
        told = self.told()
        assert (status, "Traceback" in told) == (130, False), told
        _, left = psutil.wait_procs(list(self.family.values()), timeout=10)
        assert [p for p in left if p.status() != psutil.STATUS_ZOMBIE] == []
        kept = self.temporary.glob("torchinductor_*")  # torch keeps this one in any case
        assert set(self.temporary.iterdir()) == set(kept)
        last = told.splitlines()[-1]
        assert last.startswith("mmer: stopped: ")
        return last.removeprefix("mmer: stopped: ")


# -- sweep -----------------------------------------------------------------------------------------

SIZES = ["--folds", "3", "--seeds", "8", "--width", "8", "--heads", "2", "--patience", "99"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpora") / "small"
    return load_corpus("synthetic", utterances=60, classes=3, features=4).save(folder)


def sweep(corpus: Path, folder: Path, jobs: int, epochs: int = 8) -> Command:
    arguments = ["sweep", corpus, "--models", "self-AT", *SIZES, "--store", "runs/sweep"]
    return Command([*arguments, "--epochs", epochs, "--jobs", jobs], folder)


def finished(folder: Path) -> list[str]:
    return sorted(f.parent.name for f in (folder / "runs" / "sweep").glob("[!.]*/run.json"))


@pytest.mark.parametrize(
    ("jobs", "number", "to", "times"),
    [
        (1, signal.SIGTERM, TO_PROCESS, 2),
        (2, signal.SIGINT, TO_GROUP, 3),
        *(
            pytest.param(jobs, number, to, 1, marks=pytest.mark.slow)
            for jobs in (1, 2)
            for number in (signal.SIGINT, signal.SIGTERM)
            for to in (TO_GROUP, TO_PROCESS)
        ),
    ],
)
def test_a_sweep_stops_tells_how_far_it_is_and_goes_on(corpus, tmp_path, jobs, number, to, times):
    first = sweep(corpus, tmp_path, jobs)
    first.until(lambda: len(finished(tmp_path)) >= 2, "two runs")
    first.send(number, to, times)
    told = first.ends()
    kept = finished(tmp_path)
    assert 2 <= len(kept) < 24, "it was stopped between the first run and the last"
    assert told == f"{len(kept)} of 24 runs are in runs/sweep; the same command goes on"
    store = ResultStore(tmp_path / "runs" / "sweep")
    seen = {p.name for p in store.path.iterdir() if not p.name.startswith(".")}
    assert seen == {*kept, "claims", "store.json"}
    for key in kept:
        assert len(store.history(key)) == 8
        assert store.weights(key)
        store.predictions(key)
    before = {key: (store.path / key / "run.json").stat().st_mtime_ns for key in kept}

    again = sweep(corpus, tmp_path, 2)
    assert again.process.wait(timeout=PATIENCE) == 0
    assert len(finished(tmp_path)) == 24
    after = {key: (store.path / key / "run.json").stat().st_mtime_ns for key in kept}
    assert after == before, "none of these was run again"


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="what is loaded is read in /proc")
def test_a_sweep_is_stopped_while_torch_is_imported(corpus, tmp_path):
    one = sweep(corpus, tmp_path, 1)
    one.until(lambda: "libtorch" in Path(f"/proc/{one.process.pid}/maps").read_text(), "torch")
    one.send(signal.SIGINT)
    assert one.ends() == "nothing was written"
    assert not (tmp_path / "runs").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked from a server there")
def test_a_sweep_is_stopped_while_the_server_of_its_workers_imports(corpus, tmp_path):
    one = sweep(corpus, tmp_path, 2)
    one.until(lambda: any(
        "forkserver" in " ".join(p.cmdline()) for p in psutil.Process(one.process.pid).children()
    ), "the server")  # fmt: skip
    one.send(signal.SIGINT)
    assert one.ends().startswith("0 of 24 runs are in runs/sweep")


# -- study -----------------------------------------------------------------------------------------

COUNT = "from pathlib import Path\nwith open({log!r}, 'a') as log:\n    log.write('{stem}\\n')\n"
STUBBORN = """import signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
Path({sign!r}).touch()
time.sleep(600)"""
PATIENT = (
    "import time\nPath({sign!r}).touch()\nwhile not Path({go!r}).exists():\n    time.sleep(0.05)"
)


@pytest.fixture
def notebooks(tmp_path) -> Path:
    """01 ends at once; 02 waits for a file; 03 minds no interrupt and has a process of its own."""
    folder = tmp_path / "notebooks"
    bodies = {"01_data": "", "02_attention": PATIENT, "03_training": STUBBORN}
    for stem, body in bodies.items():
        sign, go = str(tmp_path / f"{stem}-begun"), str(tmp_path / "go")
        code = COUNT.format(log=str(tmp_path / "log"), stem=stem) + body.format(sign=sign, go=go)
        write_notebook(folder, stem, PARAMETERS, code)
    return folder


def executed(folder: Path) -> list[str]:
    """The notebooks whose first cell was run since this was asked last."""
    log = folder / "log"
    stems = log.read_text().split() if log.exists() else []
    log.unlink(missing_ok=True)
    return sorted(stems)


def begun(folder: Path) -> list[Path]:
    return sorted(folder.glob("*-begun"))


@pytest.mark.parametrize(
    ("number", "times"),
    [
        (signal.SIGINT, 2),
        pytest.param(signal.SIGINT, 1, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, 1, marks=pytest.mark.slow),
    ],
)
def test_a_study_stops_and_goes_on_with_what_is_not_finished(notebooks, number, times):
    folder = notebooks.parent
    made = folder / "runs" / "quick" / "notebooks"
    one = Command(["study"], folder)
    one.until(lambda: len(begun(folder)) == 2, "two notebooks that wait")
    one.send(number, times=times)
    assert one.ends() == (
        "1 notebook is finished in runs/quick, trained models are in their store; "
        "the same command goes on"
    )
    assert sorted(p.name for p in made.iterdir()) == ["01_data.ipynb", "01_data.json"]
    assert executed(folder) == ["01_data", "02_attention", "03_training"]

    (folder / "go").touch()
    write_notebook(notebooks, "03_training", PARAMETERS, "raise ValueError('no')")
    one = Command(["study"], folder)
    assert one.process.wait(timeout=PATIENCE) == 1
    assert "03_training, cell 3: ValueError: no. The notebook up to there: " in one.told()
    assert one.told().endswith(
        "2 notebooks are finished in runs/quick, trained models are in their store; "
        "the same command goes on\n"
    )
    assert executed(folder) == ["02_attention"], "01 is up to date"
    assert (made / "03_training.failed.ipynb").exists()

    one = Command(["study"], folder)
    assert one.process.wait(timeout=PATIENCE) == 1
    assert executed(folder) == []
    assert (made / "03_training.failed.ipynb").exists(), "it failed again, and is kept again"


def test_a_kernel_that_is_not_ready_yet_is_stopped_without_a_word(notebooks):
    one = Command(["study"], notebooks.parent)
    one.until(lambda: any(
        "ipykernel" in " ".join(p.cmdline()) for p in psutil.Process(one.process.pid).children()
    ), "a kernel")  # fmt: skip
    one.send(signal.SIGINT)
    one.ends()
    assert len(one.told().splitlines()) == 1


def test_fresh_executes_what_is_up_to_date_too_and_says_how_to_go_on(tmp_path):
    folder = tmp_path / "notebooks"
    code = COUNT.format(log=str(tmp_path / "log"), stem="01_data")
    write_notebook(folder, "01_data", PARAMETERS, code)
    for more, expected, hint in [
        ([], ["01_data"], False), ([], [], True), (["--fresh"], ["01_data"], False),
        (["--set", "01.seeds=3"], ["01_data"], False), (["--set", "01.seeds=3"], [], True),
    ]:  # fmt: skip
        one = Command(["study", *more], tmp_path)
        assert one.process.wait(timeout=PATIENCE) == 0, one.told()
        assert executed(tmp_path) == expected
        told = (tmp_path / "stdout").read_text()
        assert ("1 were up to date: --fresh executes them again" in told) is hint
    waits = PATIENT.format(sign=str(tmp_path / "02-begun"), go=str(tmp_path / "go"))
    write_notebook(folder, "02_attention", PARAMETERS, "from pathlib import Path\n" + waits)
    one = Command(["study", "--fresh", "--jobs", "1"], tmp_path)
    one.until(lambda: begun(tmp_path))
    one.send(signal.SIGINT)
    assert one.ends().endswith("the same command without --fresh goes on")


# -- the other commands ----------------------------------------------------------------------------


def test_a_corpus_that_is_being_made_leaves_nothing_but_finished_features(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    for i in range(400):
        soundfile.write(tmp_path / f"u{i}.wav", [0.1 * (i % 7)] * 16000 * 2, 16000)
    rows = [f"u{i},{'ab'[i % 2]},u{i}.wav" for i in range(400)]
    (tmp_path / "list.csv").write_text("id,label,audio\n" + "\n".join(rows) + "\n")
    arguments = ["corpus", "make", "manifest", "list.csv", "made/mine", "--cache", "cache"]
    one = Command([*arguments, "--jobs", "2"], tmp_path)
    features = tmp_path / "cache" / "features"
    one.until(lambda: len(list(features.rglob("*.safetensors"))) >= 4, "features")
    one.send(signal.SIGINT, times=2)
    assert one.ends() == (
        "nothing was written to made/mine, features that are finished are kept in cache; "
        "the same command goes on"
    )
    assert list((tmp_path / "made").iterdir()) == []
    assert list(features.rglob(".*")) == []
    assert len(list(features.rglob("*.safetensors"))) < 400


def test_a_bench_that_is_stopped_names_the_parts_that_are_left(tmp_path):
    one = Command(["bench", "steps", "zoo", "--json", "bench.json"], tmp_path)
    one.until(lambda: "steps each" in one.told(), "the first timing")
    one.send(signal.SIGINT)
    assert one.ends() == (
        "no part was measured to its end; `mmer bench steps zoo` measures the rest"
    )
    assert not (tmp_path / "bench.json").exists()


def test_a_book_that_is_stopped_leaves_the_one_before_it(tmp_path):
    book = tmp_path / "book"
    book.mkdir()
    (book / "index.html").write_text("before")

    def fill_and_stop() -> None:
        with _renamed_when_whole(book) as folder:
            (folder / "index.html").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill_and_stop()
    assert [p.name for p in tmp_path.iterdir()] == ["book"]
    assert (book / "index.html").read_text() == "before"


def test_a_book_that_is_stopped_between_two_renames_is_put_back(tmp_path, monkeypatch):
    book = tmp_path / "book"
    book.mkdir()
    (book / "index.html").write_text("before")
    real, calls = Path.rename, []

    def rename(self: Path, target: Path) -> Path:
        calls.append(self.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(KeyboardInterrupt), _renamed_when_whole(book) as folder:
        (folder / "index.html").write_text("new")
    assert calls == ["book", "new", "old"]
    assert (book / "index.html").read_text() == "before"


# -- what the signal meets -------------------------------------------------------------------------

# A command in place of `doctor`: it has a process of its own, and is at work when it says so.
AT_WORK = """
import ctypes, subprocess, sys, threading, time
from mmer_lib.cli import commands, main, stop
from mmer_lib.cli.shell import app
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
def work():
    stop.on_stop(lambda: "half of it is done")
    sys.stderr.write("at work\\n")
{body}
app.registered_commands = [c for c in app.registered_commands if c.callback.__name__ == "study"]
app.command("work")(work)
sys.exit(main(["work"]))
"""


LOSES = """    while True:
        try:
            time.sleep(600)
        except KeyboardInterrupt:
            {then}"""
BODIES = {
    "as usual": "    time.sleep(600)",
    "lost once": LOSES.format(then="break") + "\n    time.sleep(600)",
    "lost always": LOSES.format(then="pass"),
    "turned into another": LOSES.format(then="raise ImportError('half a module')"),
    "lost, and then done": LOSES.format(then="break"),
    "slow to clean up": "    try:\n        time.sleep(600)\n    finally:\n        time.sleep(600)",
    "in a call of C": "    while True:\n        ctypes.CDLL(None).sleep(600)",
    "with a thread that goes on": "    threading.Thread(target=time.sleep, args=(600,)).start()\n"
    "    time.sleep(600)",
}


@pytest.mark.parametrize(
    ("body", "number"),
    [*((body, signal.SIGINT) for body in BODIES), ("as usual", signal.SIGTERM)],
)
def test_whatever_a_command_makes_of_the_interrupt_it_ends(tmp_path, body, number):
    one = Command([], tmp_path, code=AT_WORK.format(body=BODIES[body]))
    one.until(lambda: "at work" in one.told())
    one.send(number, TO_PROCESS)
    assert one.ends() == "half of it is done"
    assert one.told().count("stopped") == 1


def test_a_reader_who_is_gone_is_no_reason_for_a_traceback(tmp_path):
    code = "import os, sys; os.close(2);" + AT_WORK.format(body="    time.sleep(600)").replace(
        'sys.stderr.write("at work\\n")', 'open("at work", "w").close()'
    )
    one = Command([], tmp_path, code=code)
    one.until(lambda: (tmp_path / "at work").exists())
    one.send(signal.SIGINT)
    assert one.process.wait(timeout=PATIENCE) == 130


def test_a_signal_that_is_ignored_stays_ignored_and_others_keep_their_handlers():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    mine = lambda *_: None  # noqa: E731
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, mine)
        with stop.stoppable():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        for one, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(one, handler)


def test_handlers_and_threads_are_as_before_when_a_command_has_ended(capsys):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    threads = threading.active_count()
    with stop.stoppable() as stopping:
        assert signal.getsignal(signal.SIGINT) == stopping.handle
        assert threading.active_count() == threads + 1
    assert cli.main(["corpus", "list"]) == 0
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert threading.active_count() == threads
    assert signal.set_wakeup_fd(-1) == -1


def test_outside_of_the_main_thread_a_command_minds_no_signal():
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(cli.main(["corpus", "list"])))
    thread.start()
    thread.join()
    assert seen == [0]


def test_the_last_words_of_one_command_are_not_those_of_the_next(capsys, monkeypatch):
    stop.on_stop(lambda: "told by another")
    with stop.stoppable() as stopping:
        pass
    assert stop.end_stopped(stopping) == 130
    assert capsys.readouterr().err == "mmer: stopped: nothing was written\n"
