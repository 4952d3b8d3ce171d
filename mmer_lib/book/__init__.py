"""The book: the executed notebooks of a run folder as HTML pages that need nothing but a browser.

    build_book("runs/quick").index                       # runs/quick/book/index.html

Every page is one file with its pictures, sounds, formulas, styles and scripts inside, so no page
asks for anything, neither from a network nor from the disk. A content security policy holds that:
it names the hashes of our own scripts, and whatever else stands in an output cannot run.
"""

from __future__ import annotations

from mmer_lib.book.build import Book, build_book

__all__ = ["Book", "build_book"]
