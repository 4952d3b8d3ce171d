"""Packages that only some work needs: which extra brings them, and the line that asks for it.

need_extra("video", "clip.mp4")     # InputError unless PyAV and OpenCV are installed
"""

from __future__ import annotations

from importlib.util import find_spec

from mmer_lib.errors import InputError

EXTRAS = {  # extra of pyproject.toml -> module -> what people call it
    "video": {"av": "PyAV", "cv2": "OpenCV"},
    "staged": {"espeakng_loader": "eSpeak NG", "av": "PyAV", "cv2": "OpenCV"},
    "pretrained": {"transformers": "transformers", "huggingface_hub": "huggingface-hub"},
    "minilm": {"transformers": "transformers", "huggingface_hub": "huggingface-hub"},
}


def missing(extra: str) -> list[str]:
    """What of an extra is not installed; nothing is imported to find out."""
    return [name for module, name in EXTRAS[extra].items() if find_spec(module) is None]


def need_extra(extra: str, wanted: str) -> None:
    """Raise ``InputError`` with the command that installs the extra which ``wanted`` needs."""
    if lacking := missing(extra):
        raise InputError(f"{wanted} needs {', '.join(lacking)}: pip install 'mmer[{extra}]'")
