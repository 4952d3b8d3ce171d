"""Small trials of what the study leans on, each in a process of its own: see ``mmer_lib.doctor``.

A broken library may hang, crash or take its process with it, and some take seconds to load: so
``doctor`` starts these functions beside each other and reads what each writes, one JSON object.
What fails is raised here; its last line is what a reader is told.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Import name -> the package that brings it; those with compiled parts, which may not fit a system.
COMPILED = {
    "numpy": "numpy", "scipy.stats": "scipy", "pandas": "pandas", "sklearn": "scikit-learn",
    "safetensors": "safetensors", "soundfile": "soundfile", "soxr": "soxr",
    "matplotlib.font_manager": "matplotlib",
}  # fmt: skip
OPTIONAL = {"av": "av", "cv2": "opencv-python-headless"}  # likewise, where they are installed
_PATIENCE = 20  # seconds that a kernel has to start


def libraries() -> dict[str, Any]:
    """Which of ``COMPILED`` cannot be imported, and why; the voice; where figures keep fonts."""
    failed = {}
    there = {m: package for m, package in OPTIONAL.items() if importlib.util.find_spec(m)}
    for module, package in (COMPILED | there).items():
        try:
            importlib.import_module(module)
        except Exception as error:  # noqa: BLE001  a broken library may raise anything
            failed[package] = _line(error)
    return {"failed": failed, "voice": _voice(), "faces": _faces(), "fonts": _fonts()}


def _voice() -> str:
    """Why eSpeak NG cannot speak; "" if it can."""
    from mmer_lib.errors import InputError

    try:
        from mmer_lib.corpora.staged import voice

        voice._engine()
    except (ImportError, InputError) as error:
        return _line(error)
    return ""


def _faces() -> str:
    """Why faces cannot be looked for; "" if they can."""
    try:
        import cv2

        file = Path(cv2.data.haarcascades) / "haarcascade_frontalface_default.xml"
        return "" if file.is_file() else "opencv came without its cascade classifiers"
    except (ImportError, AttributeError) as error:
        return _line(error)


def _fonts() -> str:
    """The folder of matplotlib's list of fonts, "" if it cannot be written (or there is none)."""
    try:
        import matplotlib
    except ImportError:
        return ""
    folder = matplotlib.get_cachedir()
    return "" if folder.startswith(tempfile.gettempdir()) else str(folder)


def torch() -> dict[str, Any]:
    """Threads of torch, a product and its gradient, and the devices of CUDA with their GB."""
    import torch

    x = torch.ones(2, 2, requires_grad=True)
    (x @ x).sum().backward()
    devices = {}
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            about = torch.cuda.get_device_properties(i)
            devices[f"cuda:{i} {about.name}"] = round(about.total_memory / 1e9, 1)
    return {"threads": torch.get_num_threads(), "built for": torch.version.cuda, "cuda": devices}


def kernels() -> dict[str, Any]:
    """Compile a loop, or find it compiled, and say where it is kept; seconds for one addition."""
    import numpy as np

    from mmer_lib.kernels import add_product, padded

    started = time.perf_counter()
    w = padded(np.ones((4, 3), np.float32))
    out = np.zeros((2, w.shape[1]), np.float32)
    add_product(out, np.ones((2, 4), np.float32), w)
    if not (out[:, :3] == 4).all():
        raise ArithmeticError(f"a compiled product gave {out.tolist()}, 4 in each place expected")
    about = add_product.stats
    return {
        "seconds": round(time.perf_counter() - started, 2),
        "kept": about.cache_path,
        "found": bool(about.cache_hits),
    }


def notebook() -> dict[str, Any]:
    """Start the kernel of the notebooks as the study does; which Python it runs."""
    from jupyter_client.manager import KernelManager

    short = "/tmp" if os.path.isdir("/tmp") else None  # the path of a socket has 100 characters
    with tempfile.TemporaryDirectory(prefix="mmer-", dir=short) as own:
        os.environ |= {"JUPYTER_RUNTIME_DIR": own, "IPYTHONDIR": own}
        manager = KernelManager(kernel_name="python3")
        if os.name == "posix":
            manager.transport, manager.ip = "ipc", f"{own}/kernel"
        manager.start_kernel(extra_arguments=["--IPKernelApp.log_level=CRITICAL"])
        try:
            client = manager.client()
            client.start_channels()
            client.wait_for_ready(timeout=_PATIENCE)
            told = client.execute_interactive(
                "1", user_expressions={"prefix": "__import__('sys').prefix"},
                timeout=_PATIENCE, output_hook=lambda _: None,
            )  # fmt: skip
            data = told["content"]["user_expressions"]["prefix"]["data"]["text/plain"]
            client.stop_channels()
        finally:
            manager.shutdown_kernel(now=True)
    return {"prefix": data.strip("'\"")}


def _line(error: BaseException) -> str:
    told = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {told}"


PROBES: dict[str, Callable[[], dict[str, Any]]] = {
    "libraries": libraries, "torch": torch, "kernels": kernels, "notebook": notebook,
}  # fmt: skip


def main(name: str) -> None:
    """Write what the probe ``name`` finds to standard output."""
    sys.stdout.write("\n" + json.dumps(PROBES[name]()) + "\n")
