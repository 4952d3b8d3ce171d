"""mmer_lib: an executable study of attention fusion for multi-modal emotion recognition.

Importing the package costs nothing and changes nothing: every part is imported where it is used,
e.g. ``from mmer_lib.corpora import load_corpus``.
"""

__version__ = "0.1.0"
