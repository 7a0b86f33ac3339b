"""Lines over hours as SVG: panels below each other, one legend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

_COLOURS = ("#1b9e77", "#d95f02", "#7570b3", "#e7298a", "#66a61e", "#222222", "#a6761d")
_WIDTH, _HEIGHT, _LEFT, _GAP, _TOP = 900, 190, 70, 55, 70


@dataclass(frozen=True)
class Panel:
    """One diagram: name -> its value hour by hour."""

    title: str
    lines: Mapping[str, Sequence[float]]


def draw(title: str, panels: Sequence[Panel]) -> str:
    """The picture, as text."""
    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    colours = {name: _COLOURS[at % len(_COLOURS)] for at, name in enumerate(names)}
    height = _TOP + len(panels) * (_HEIGHT + _GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDTH + 20}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{_LEFT}" y="22" font-size="16">{escape(title)}</text>',
    ]
    for at, name in enumerate(names):
        x = _LEFT + 115 * at
        parts.append(f'<path d="M{x} 42h18" stroke="{colours[name]}" stroke-width="3"/>')
        parts.append(f'<text x="{x + 24}" y="46">{escape(name)}</text>')
    for at, panel in enumerate(panels):
        parts += _panel(panel, _TOP + at * (_HEIGHT + _GAP), colours)
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel, top: float, colours: Mapping[str, str]) -> list[str]:
    most = max((value for line in panel.lines.values() for value in line), default=0.0) or 1.0
    hours = max((len(line) for line in panel.lines.values()), default=1)
    bottom = top + _HEIGHT
    parts = [f'<text x="{_LEFT}" y="{top - 6}">{escape(panel.title)}</text>']
    for step in range(5):
        y = bottom - _HEIGHT * step / 4
        parts.append(f'<path d="M{_LEFT} {y:.1f}h{_WIDTH}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{most * step / 4:.3g}</text>')
    for hour in range(0, hours + 1, max(1, hours // 12)):
        x = _LEFT + _WIDTH * hour / max(1, hours)
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{hour} h</text>')
    for name, line in panel.lines.items():
        points = " ".join(
            f"{_LEFT + _WIDTH * (hour + 0.5) / hours:.1f},{bottom - _HEIGHT * value / most:.1f}"
            for hour, value in enumerate(line)
        )
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colours[name]}" stroke-width="1.6"/>')
    return parts
