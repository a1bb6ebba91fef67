"""Small pictures as SVG text: no script, nothing from elsewhere, and the figures in words for who does not see them.

Text is in the colour of the page. The colours of bars can be set by CSS variables (`--tokopt-measured`,
`--tokopt-saved`, `--tokopt-lost` ...); by default they stand out on light and on dark. What is estimated, or was only
watched in shadow mode, is drawn hollow, so that nobody has to tell it by its colour.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from langchain_tokopt.telemetry.report_figures import percent, plain

Tone = Literal["measured", "estimated", "saved", "watched", "lost", "thought", "other"]

_COLOURS: Final = {
    "measured": "hsl(212 68% 52%)",
    "estimated": "hsl(32 82% 46%)",
    "saved": "hsl(152 52% 40%)",
    "watched": "hsl(152 52% 40%)",
    "lost": "hsl(4 66% 54%)",
    "thought": "hsl(275 45% 58%)",
    "other": "hsl(215 12% 54%)",
}
_HOLLOW: Final = frozenset({"estimated", "watched"})
_WIDTH: Final = 560
_ROW: Final = 24
# More bars than these get no hint of their own: the picture would be mostly hints.
_MOST_HINTS: Final = 60


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar: how long, in which tone, and its figure in words. `value` is `None` where nobody knows it."""

    value: float | None
    shown: str
    tone: Tone = "measured"


@dataclass(frozen=True, slots=True)
class Row:
    """A name with one bar or several below each other."""

    name: str
    bars: tuple[Bar, ...]


def columns(title: str, slots: Sequence[Row], *, first: str, last: str, top: str, words: str) -> str:
    """Bars over time: a slot for each stretch, from `first` to `last`; `top` is what the highest stands for.

    `words` says the figures. Where a value is not known, a mark stands on the ground.
    """
    height, ground, left = 132, 108, 4
    most = max((bar.value or 0.0 for slot in slots for bar in slot.bars), default=0.0)
    step = (_WIDTH - 2 * left) / max(1, len(slots))
    shapes = [_line(left, ground, _WIDTH - left, ground)]
    for n, slot in enumerate(slots):
        # The first tone is the main one; the others stand narrower beside it.
        shares = [1.0] if len(slot.bars) < 2 else [0.62, *[0.38 / (len(slot.bars) - 1)] * (len(slot.bars) - 1)]
        x, room = left + n * step, max(0.8, step * 0.86)
        shapes_of_slot = []
        for bar, share in zip(slot.bars, shares, strict=False):
            if bar.value is None:
                shapes_of_slot.append(_rect(x, ground - 2, room * share, 2, "other"))
            elif bar.value > 0 and most:
                size = max(1.0, bar.value / most * 84)
                shapes_of_slot.append(_rect(x, ground - size, room * share * 0.94, size, bar.tone))
            x += room * share
        if not shapes_of_slot:
            continue
        hint = f"{slot.name}: {', '.join(bar.shown for bar in slot.bars)}" if len(slots) <= _MOST_HINTS else ""
        shapes.append(f"<g>{_title(hint)}{''.join(shapes_of_slot)}</g>" if hint else "".join(shapes_of_slot))
    shapes += [
        _text(left, 14, top, faint=True),
        _text(left, height - 6, first, faint=True),
        _text(_WIDTH - left, height - 6, last, faint=True, anchor="end"),
    ]
    return _svg(title, words, height, shapes)


def bars(title: str, rows: Sequence[Row], *, words: str | None = None) -> str:
    """Rows with a bar each, the longest as wide as there is room; what was lost points the same way in another tone."""
    names, figures = 170, 126
    room = _WIDTH - names - figures
    most = max((abs(bar.value or 0.0) for row in rows for bar in row.bars), default=0.0)
    shapes, y = [], 0
    for row in rows:
        shapes.append(_text(0, y + 16, _fit(row.name, names)))
        for bar in row.bars:
            size = abs(bar.value or 0.0) / most * room if most else 0.0
            if bar.value:
                shapes.append(_rect(names, y + 6, max(1.0, size), 12, bar.tone))
            shapes.append(_text(names + (max(1.0, size) if bar.value else 0.0) + 6, y + 16, bar.shown, faint=True))
            y += _ROW
    said = "; ".join(f"{row.name}: {', '.join(bar.shown for bar in row.bars)}" for row in rows)
    return _svg(title, words or said, max(_ROW, y), shapes)


def stacked(title: str, parts: Sequence[tuple[str, int, Tone]]) -> str:
    """One bar of shares, with what each is below it."""
    whole = sum(size for _, size, _ in parts)
    shares = [(name, size, size / whole if whole else 0.0, tone) for name, size, tone in parts]
    shapes, x = [], 0.0
    for _, _, share, tone in shares:
        if share:
            shapes.append(_rect(x, 2, max(0.5, share * _WIDTH - 2), 20, tone))
        x += share * _WIDTH
    y = 42
    for name, size, share, tone in shares:
        shapes += [_rect(0, y - 10, 10, 10, tone), _text(16, y, f"{name}: {size:,} ({percent(share)})")]
        y += 18
    said = "; ".join(f"{name}: {size:,} tokens ({percent(share)})" for name, size, share, _ in shares)
    return _svg(title, said, y - 8, shapes)


def sparkline(title: str, points: Sequence[float | None], *, first: str, last: str, words: str) -> str:
    """Shares over time as a line from 0 % to 100 %, broken where there is none."""
    height, ground, left, tall = 112, 88, 4, 72
    step = (_WIDTH - 2 * left) / max(1, len(points) - 1)
    shapes = [
        _line(left, ground, _WIDTH - left, ground),
        _line(left, ground - tall, _WIDTH - left, ground - tall, dim=True),
    ]
    run: list[str] = []
    for n, share in enumerate([*points, None]):
        if share is not None:
            run.append(f"{left + n * step:.1f},{ground - share * tall:.1f}")
            continue
        if len(run) == 1:
            x, y = run[0].split(",")
            shapes.append(f'<circle cx="{x}" cy="{y}" r="2.5" style="fill:{_colour("saved")}"/>')
        elif run:
            line = f"fill:none;stroke:{_colour('saved')};stroke-width:2;stroke-linejoin:round"
            shapes.append(f'<polyline points="{" ".join(run)}" style="{line}"/>')
        run = []
    shapes += [
        _text(left, 12, "100%", faint=True),
        _text(left, height - 6, first, faint=True),
        _text(_WIDTH - left, height - 6, last, faint=True, anchor="end"),
    ]
    return _svg(title, words, height, shapes)


# --- shapes ----------------------------------------------------------------------------------------------------------


def _svg(title: str, words: str, height: int, shapes: Sequence[str]) -> str:
    label = _escaped(f"{title}. {words}")
    return (
        f'<svg role="img" aria-label="{label}" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        f'style="display:block;max-width:100%;height:auto;color:inherit;font:12px system-ui,sans-serif">'
        f"{_title(title)}{''.join(shapes)}</svg>"
    )


def _rect(x: float, y: float, width: float, height: float, tone: Tone) -> str:
    colour = _colour(tone)
    look = f"fill:{colour};fill-opacity:.25;stroke:{colour};stroke-width:1" if tone in _HOLLOW else f"fill:{colour}"
    inset = 0.5 if tone in _HOLLOW else 0.0
    return (
        f'<rect x="{x + inset:.1f}" y="{y + inset:.1f}" width="{max(0.3, width - 2 * inset):.1f}" '
        f'height="{max(0.3, height - 2 * inset):.1f}" style="{look}"/>'
    )


def _line(x: float, y: float, to_x: float, to_y: float, *, dim: bool = False) -> str:
    look = f"stroke:currentColor;stroke-opacity:{'.15' if dim else '.35'}"
    return f'<line x1="{x}" y1="{y}" x2="{to_x}" y2="{to_y}" style="{look}"/>'


def _text(x: float, y: float, text: str, *, faint: bool = False, anchor: str = "start") -> str:
    look = f"fill:currentColor;{'fill-opacity:.75;' if faint else ''}text-anchor:{anchor}"
    return f'<text x="{x:.1f}" y="{y:.1f}" style="{look}">{_escaped(text)}</text>'


def _title(text: str) -> str:
    return f"<title>{_escaped(text)}</title>"


def _colour(tone: Tone) -> str:
    return f"var(--tokopt-{tone},{_COLOURS[tone]})"


def _fit(text: str, room: int) -> str:
    """What fits into so many units, at about seven each."""
    most = room // 7
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _escaped(text: str) -> str:
    return html.escape(plain(text))
