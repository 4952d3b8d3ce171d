"""Colours of the book, light and dark, as CSS variables; every text colour has contrast 4.5 to 1.

The names without ``code`` are those that the explorers' scripts read too.
"""

from __future__ import annotations

LIGHT = {
    "paper": "#fcfcfa", "soft": "#f3f4f1", "ink": "#1d2329", "quiet": "#545e69",
    "line": "#d9dde0", "accent": "#0b5c9e", "accent2": "#ad4400", "mark": "#ffe9a8",
    "code-keyword": "#7b3aa0", "code-string": "#2a6a3a", "code-comment": "#5a6570",
    "code-number": "#9c3f00", "code-name": "#0b5c9e",
    "different": "#882255", "equivalent": "#117733",  # as in the figures
}  # fmt: skip
DARK = {
    "paper": "#14181d", "soft": "#1d232a", "ink": "#e2e6ea", "quiet": "#a4aeb9",
    "line": "#353e48", "accent": "#80bbf5", "accent2": "#ffa26b", "mark": "#5c4a0a",
    "code-keyword": "#cda8f5", "code-string": "#a0d6a2", "code-comment": "#98a4b0",
    "code-number": "#f5b583", "code-name": "#80bbf5",
    "different": "#ee8fb8", "equivalent": "#7fd095",
}  # fmt: skip


def write_variables() -> str:
    """The CSS that sets them: as the system wishes, as the reader chose, and light on paper."""
    light, dark = (
        " ".join(f"--{name}: {colour};" for name, colour in colours.items())
        for colours in (LIGHT, DARK)
    )
    return (
        f":root {{ color-scheme: light; {light} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{\n"
        f"  :root:not([data-theme='light']) {{ color-scheme: dark; {dark} }}\n}}\n"
        f"@media screen {{ :root[data-theme='dark'] {{ color-scheme: dark; {dark} }} }}\n"
    )


def contrast(colour: str, ground: str) -> float:
    """The contrast ratio of two colours ``#rrggbb``, 1 to 21 (WCAG 2.2, relative luminance)."""
    bright, dim = sorted((_luminance(colour), _luminance(ground)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
