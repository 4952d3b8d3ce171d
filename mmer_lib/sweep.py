"""Plans of runs, and running them: every configuration on every fold with every seed.

The unit of parallel work is a run in a process of one thread (two such processes beat one of two
threads). Numbers depend on the run alone, never on ``jobs`` or on what ran before. Workers map the
corpus where it lies and get one run at a time: none waits for another. Inside a fold the expensive
ones go first, so that no long one is left alone at the end.

Several sweeps, also on machines that share a disk, may work on one store: whoever executes a run
has its claim (see ``claims``), so that none is done twice. Killed at any moment, a sweep that is
started again goes on from there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from mmer_lib import metrics
from mmer_lib.audit import set_aside, verify
from mmer_lib.claims import claimant, is_claimed
from mmer_lib.corpora import Corpus, Fold
from mmer_lib.corpora.base import blake2b
from mmer_lib.corpora.batches import Part, Scaler, pair_up
from mmer_lib.corpora.folds import MAX_SEED
from mmer_lib.corpora.shared import SharedCorpus, share
from mmer_lib.distributed import on_cluster
from mmer_lib.errors import InputError, check_whole
from mmer_lib.integrity import spec_key
from mmer_lib.losses import check_losses, parse_losses
from mmer_lib.model import (
    ModelConfig,
    Recognizer,
    count_parameters,
    list_names,
    parse_configuration,
)
from mmer_lib.provenance import provenance
from mmer_lib.store import SEMANTICS, STORED_PARTS, ResultStore
from mmer_lib.train import TrainConfig, build_model, check_precision, fit, predict
from mmer_lib.workers import as_finished, telling_of_memory

# What workers share: this, and what is imported at the first training step.
PRELOAD = ("mmer_lib.sweep", "mmer_lib.kernels", "torch._dynamo")
_POLL = 0.5  # seconds between looks at runs that others are at


@dataclass(frozen=True)
class Run:
    """One configuration on one fold with one seed."""

    config: ModelConfig
    fold: Fold
    seed: int
    train: TrainConfig
    specification: Mapping[str, Any]  # of everything that decides the numbers
    study: str

    @property
    def key(self) -> str:
        """What the store knows it by."""
        return spec_key(self.specification)

    @property
    def name(self) -> str:
        """What a reader knows it by."""
        return f"{self.config.name}, fold {self.fold.index}, seed {self.seed}"


_KINDS: dict[str, tuple[type, str]] = {  # of what a plan is made of
    "corpus": (Corpus, "a Corpus, as load_corpus gives,"),
    "train": (TrainConfig, "a TrainConfig"),
    "model": (Mapping, "a dict of switches"),
}


@dataclass(frozen=True)
class Plan:
    """``configurations`` x folds x ``seeds``; ``model`` are switches for all (width, heads, ...).

    Raises ``InputError`` for anything that cannot be run, before the first run starts.
    """

    corpus: Corpus
    configurations: tuple[str, ...]
    protocol: str = "random"
    n_folds: int = 5
    seeds: int = 10
    fold_seed: int = 0
    train: TrainConfig = field(default_factory=TrainConfig)
    model: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, (kind, wanted) in _KINDS.items():
            if not isinstance(getattr(self, name), kind):
                given = type(getattr(self, name)).__name__
                raise InputError(f"the plan's {name} is of type {given}: {wanted} expected")
        names = list_names(self.configurations)
        if not names:
            raise InputError("the plan names no configuration: give at least one, e.g. self-AVT")
        for i, name in enumerate(names):
            if name in names[:i]:
                raise InputError(f"the plan names {name!r} twice")
        plain = {
            "configurations": names,
            "seeds": check_whole("seeds", self.seeds, at_least=1),
            "fold_seed": check_whole("fold_seed", self.fold_seed, at_least=0, at_most=MAX_SEED),
        }
        for field_name, value in plain.items():  # plain numbers, so that keys can be made of them
            object.__setattr__(self, field_name, value)

    def runs(self) -> list[Run]:
        """Every run, seeds innermost, so that a plan cut short has whole folds first."""
        configs = [
            parse_configuration(name, **self.model).for_corpus(self.corpus)
            for name in self.configurations
        ]
        losses = parse_losses(self.train.losses)
        for config in configs:
            with torch.device("meta"):  # what does not fit is told of before the first run
                check_losses(losses, Recognizer(config))
            check_precision(self.train, config)
        folds = self.corpus.folds(self.protocol, self.n_folds, self.fold_seed)
        shared = {
            "corpus": self.corpus.fingerprint,
            "protocol": self.protocol,
            "n_folds": len(folds),
            "fold_seed": self.fold_seed,
            "train": asdict(self.train) | {"device": torch.device(self.train.device).type},
            "semantics": SEMANTICS,
        }
        parts = blake2b(*(rows for fold in folds for rows in (fold.train, fold.dev, fold.test)))
        own = {"model": {k: str(v) for k, v in self.model.items()}, "rows": parts}
        study = spec_key(shared | own)
        return [
            Run(config, fold, seed, self.train, _specify(shared, config, fold, seed), study)
            for fold in folds
            for config in configs
            for seed in range(self.seeds)
        ]


def _specify(shared: dict[str, Any], config: ModelConfig, fold: Fold, seed: int) -> dict[str, Any]:
    """Everything that decides the numbers of a run."""
    rows = blake2b(fold.train, fold.dev, fold.test)
    own = {"configuration": asdict(config), "fold": fold.index, "rows": rows, "seed": seed}
    return shared | own


def run_plan(
    plan: Plan,
    store: ResultStore,
    jobs: int = 1,
    name: str = "sweep",
    repair: bool = False,
    scheduler: str | None = None,
) -> pd.DataFrame:
    """Run what the store does not hold yet and return the plan's rows of its table.

    Runs that other sweeps are at are waited for, and taken over where those die. The store
    remembers the plan as ``name`` (see ``ResultStore.plan``). ``jobs`` worker processes
    of one thread each; 1 works in this process. ``scheduler``: the address of a Dask cluster whose
    workers do it instead (see ``mmer_lib.distributed``). Damaged runs stay as they are and out of
    the table, which says so; with ``repair`` they are looked for in every byte, moved aside inside
    the store and run again. Progress goes to standard error, quietly where there is no terminal.
    Raises ``InputError`` for what cannot be run or written, before the first run starts.
    """
    jobs = check_whole("jobs", jobs, at_least=1)
    if scheduler is not None and jobs > 1:
        raise InputError(f"jobs={jobs} and a scheduler: its workers do the runs; give one of both")
    runs = plan.runs()
    store.check_writable()
    store.tidy()
    if repair:
        set_aside(store, [one.key for one in verify(store, [run.key for run in runs]) if one.mend])
    todo = [run for run in runs if run.key not in store]
    quiet = True if os.environ.get("TQDM_DISABLE") else None  # None: where there is no terminal
    done = len(runs) - len(todo)
    with tqdm(total=len(runs), initial=done, unit="run", disable=quiet) as bar:
        jobs = min(jobs, len(todo) or 1)
        given = (todo, plan.corpus, store, jobs, scheduler, bar.set_postfix_str)
        with closing(_execute_all(*given)) as keys:
            for key in keys:  # closed even if Ctrl-C comes here, so that workers end
                bar.set_postfix_str(key, refresh=False)
                bar.update()
    store.note_plan(name, [run.key for run in runs])
    store.tidy()  # behind others who died meanwhile
    return store.to_frame([run.key for run in runs])


def _execute_all(
    todo: list[Run],
    corpus: Corpus,
    store: ResultStore,
    jobs: int,
    scheduler: str | None,
    tell: Callable[[str], None],
) -> Generator[str, None, None]:
    """Execute runs here, in worker processes or on a cluster; yields the key of each finished.

    Runs that other processes are at are put aside, and looked at again when all else is done.
    """
    if scheduler is not None and todo:
        runs = in_working_order(todo, corpus)
        yield from on_cluster(execute_or_wait, runs, corpus, store, scheduler, _tell)
        return
    todo = todo if jobs == 1 else in_working_order(todo, corpus)
    with nullcontext(corpus) if jobs == 1 else share(corpus, store.path) as given:
        while todo:
            aside = []
            for run, there in _execute_once(todo, given, store, jobs):
                if there:
                    yield run.key
                else:
                    aside.append(run)
            todo = yield from _wait_for_others(aside, store, tell)


def _execute_once(
    todo: list[Run], corpus: Corpus | SharedCorpus, store: ResultStore, jobs: int
) -> Iterator[tuple[Run, bool]]:
    """Every run that nobody is at, executed; and whether the store holds it now."""
    if isinstance(corpus, Corpus):
        for run in todo:
            yield run, execute_if_free(run, corpus, store)
        return
    work = partial(_execute_in_worker, corpus, store.path.resolve())
    runs = {run.key: run for run in todo}
    for key, there in as_finished(work, runs.values(), jobs, PRELOAD, lambda run: run.name):
        yield runs[key], there


def _execute_in_worker(shared: SharedCorpus, store: Path, run: Run) -> tuple[str, bool]:
    return run.key, execute_if_free(run, shared.open(), ResultStore(store))


def _wait_for_others(
    runs: list[Run], store: ResultStore, tell: Callable[[str], None]
) -> Generator[str, None, list[Run]]:
    """Yield the keys of ``runs`` as others finish them; return the rest as soon as one is free."""
    while True:
        for run in [run for run in runs if run.key in store]:
            runs.remove(run)
            yield run.key
        if not runs or not all(is_claimed(store.path, run.key) for run in runs):
            return runs
        tell(f"waiting for {claimant(store.path, runs[0].key) or 'another process'}")
        sleep(_POLL)


def execute_if_free(run: Run, corpus: Corpus, store: ResultStore) -> bool:
    """``execute`` a run unless another process is at it or has done it; is it in the store now?

    Raises ``InputError`` where memory is not enough, and what ``execute`` raises.
    """
    with store.claim(run.key) as mine, telling_of_memory(run.name):
        if mine and run.key not in store:
            execute(run, corpus, store)
    return run.key in store


def execute_or_wait(run: Run, corpus: Corpus, store: ResultStore) -> str:
    """``execute`` a run when no other process is at it, unless one has done it; returns its key."""
    while not execute_if_free(run, corpus, store):
        sleep(_POLL)
    return run.key


def _tell(text: str) -> None:
    """A line on standard error, above the bar."""
    tqdm.write(text, file=sys.stderr)


def in_working_order(runs: list[Run], corpus: Corpus) -> list[Run]:
    """Fold after fold, so that a plan cut short has whole ones; inside a fold the costly first."""
    costs = {run.config.name: estimate_cost(run.config, corpus) for run in runs}
    return sorted(runs, key=lambda run: (run.fold.index, -costs[run.config.name]))


def estimate_cost(config: ModelConfig, corpus: Corpus) -> float:
    """How long a run takes beside others of the same plan, from the mean lengths T: a rough guess.

    The sum of T over modalities, which are encoded step by step, and of Tq Ts / 200 over the pairs
    that attend to each other. At the paper's width a step costs some 80,000 multiplications and a
    pair of steps, with softmax and dropout of six heads, some 400. A fusion that does not name its
    pairs is taken to compare everything with everything.
    """
    lengths = config.pad_to or {m: corpus.features[m].lengths.mean() for m in config.modalities}
    with torch.device("meta"):
        fusion = Recognizer(config).fusion
    pairs = getattr(fusion, "pairs", None) or list(product(config.modalities, repeat=2))
    compared = sum(lengths[query] * lengths[source] for query, source in pairs)
    return float(sum(lengths[m] for m in config.modalities) + compared / 200)


def execute(run: Run, corpus: Corpus, store: ResultStore) -> str:
    """Train, score once on test at the end, and store one run; returns its key."""
    with one_thread(), same_bits(run.train.device):
        started = perf_counter()
        parts = make_parts(run.config, run.fold, corpus)
        model = build_model(run.config, _seed(run))
        watch = _test_watcher(parts["test"], run.train.amp) if run.train.score_test else None
        fitted = fit(model, parts["train"], parts["dev"], run.train, _seed(run), watch)
        predictions = {p: predict(model, parts[p], amp=run.train.amp) for p in ("dev", "test")}
        seconds = perf_counter() - started
    scores = metrics.scores(predictions["test"].labels, predictions["test"].probabilities)
    row = _row(run, corpus) | scores | {
        "dev_accuracy": predictions["dev"].accuracy,
        "best_epoch": fitted.best_epoch,
        "epochs": len(fitted.history),
        "diverged": fitted.diverged,
        "seconds": round(seconds, 3),
        "parameters": count_parameters(model),
    }  # fmt: skip
    about = {
        "specification": run.specification,
        "row": row,
        "classes": list(corpus.classes),
        "provenance": _provenance(run.train.device),
        "leakage": run.fold.leakage.sentence(),
        "note": run.fold.note,
    }
    weights = {name: value.numpy() for name, value in fitted.state.items()}
    store.write(run.key, about, fitted.history, predictions, weights)
    return run.key


def make_parts(config: ModelConfig, fold: Fold, corpus: Corpus) -> dict[str, Part]:
    """The train, dev and test parts of a fold as ``config`` reads them, scaled by train alone.

    Where another utterance asks (``query=shuffled``), it is one of the same part, fixed by the
    fold.
    """
    scaler = Scaler.fit(corpus, fold.train, config.scaled)
    parts = {}
    for part, rows in (("train", fold.train), ("dev", fold.dev), ("test", fold.test)):
        partners = pair_up(corpus, rows, fold.index) if config.query == "shuffled" else None
        reads = (config.modalities, scaler, config.pad_to, config.dtype, partners)
        parts[part] = Part(corpus, rows, *reads)
    return parts


def restore(store: ResultStore, key: str, corpus: Corpus) -> tuple[Recognizer, dict[str, Part]]:
    """The trained model of a finished run and its parts.

    Raises ``InputError`` if the run was trained on another corpus or by another meaning of its
    configuration (``SEMANTICS``), or if its fold is drawn otherwise here.
    """
    about = store.run(key)
    row = about["row"]
    if row["semantics"] != SEMANTICS:
        raise InputError(
            f"run {key} has semantics {row['semantics']}, this version builds models of "
            f"{SEMANTICS}: its scores and predictions can be read, its model cannot. Run it again"
        )
    if row["fingerprint"] != corpus.fingerprint:
        raise InputError(
            f"run {key} was trained on corpus {row['corpus']!r} ({row['fingerprint']}), "
            f"not on {corpus.name!r} ({corpus.fingerprint})"
        )
    stored = about["specification"]["configuration"]
    config = ModelConfig(**{**stored, "modalities": tuple(stored["modalities"])})
    model = Recognizer(config)
    model.load_state_dict({k: torch.from_numpy(v) for k, v in store.weights(key).items()})
    fold = corpus.folds(row["protocol"], row["n_folds"], row["fold_seed"])[row["fold"]]
    for part in STORED_PARTS:
        ids = corpus.utterances["id"].to_numpy(dtype=str)[getattr(fold, part)]
        if not np.array_equal(ids, store.predictions(key, part).ids):
            raise InputError(
                f"run {key} had other utterances in {part} than fold {fold.index} has here: "
                f"another version of scikit-learn drew its folds. Run the sweep again"
            )
    return model.eval(), make_parts(config, fold, corpus)


def _row(run: Run, corpus: Corpus) -> dict[str, Any]:
    """The columns that are known before a run."""
    config, fold = run.config, run.fold
    return {
        "study": run.study,
        "semantics": run.specification["semantics"],
        "corpus": corpus.name,
        "fingerprint": corpus.fingerprint,
        "configuration": config.name,
        "fusion": config.fusion,
        "modalities": "".join(m[0].upper() for m in config.modalities),
        "fold": fold.index,
        "seed": run.seed,
        "protocol": fold.protocol,
        "n_folds": fold.n_folds,
        "fold_seed": fold.seed,
        "n_train": len(fold.train),
        "n_dev": len(fold.dev),
        "n_test": len(fold.test),
        "classes": len(corpus.classes),
    }


def _seed(run: Run) -> int:
    """One number from seed and fold: the same for every configuration, so that runs are paired."""
    return int(np.random.SeedSequence([run.seed, run.fold.index]).generate_state(1)[0])


def _test_watcher(test: Part, amp: bool) -> Any:
    return lambda model: {"test_accuracy": predict(model, test, amp=amp).accuracy}


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for torch, as before afterwards: the same bits whatever ``jobs`` is."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def same_bits(device: str) -> Iterator[None]:
    """On CUDA only kernels that give the same bits every time, and no TF32; as before afterwards.

    New tensors are not filled: torch would do so lest one be read before it is written, and nothing
    here does. A CPU needs none of this.
    """
    if not device.startswith("cuda"):
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    filling: Any = torch.utils.deterministic
    before = matmul.allow_tf32, cudnn.allow_tf32, filling.fill_uninitialized_memory
    debug = torch.get_deterministic_debug_mode()
    try:
        matmul.allow_tf32 = cudnn.allow_tf32 = filling.fill_uninitialized_memory = False
        torch.use_deterministic_algorithms(True)
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, filling.fill_uninitialized_memory = before
        torch.set_deterministic_debug_mode(debug)


def _provenance(device: str) -> dict[str, Any]:
    """Where the numbers come from, with the kind of GPU if one was used."""
    if not device.startswith("cuda"):
        return provenance()
    return {**provenance(), "device": torch.cuda.get_device_name(device)}
