"""Plots of what grows, as SVG: a panel for each cost, both axes logarithmic, a line for each build, and a dashed one with the
slope of a cost that grows as its cause does."""

import math

WIDTH, HEIGHT, LEFT, TOP, GAP = 300, 220, 70, 40, 40
COLORS = {"pillarbox": "#1f6fb4", "before": "#c65d1e"}


def si(value, unit):
    """A number for people: 1500000 s is never needed, 0.0015 s is 1.5 ms."""
    for factor, prefix in ((1e6, "M"), (1e3, "k"), (1, ""), (1e-3, "m"), (1e-6, "µ")):
        if value >= factor * 0.9995:
            return f"{value / factor:.3g} {prefix}{unit}".strip()
    return f"{value:.2g} {unit}".strip()


def text(x, y, words, anchor="middle", size=11):
    words = words.replace("&", "&amp;").replace("<", "&lt;")
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" font-size="{size}">{words}</text>'


def decades(values):
    """The powers of ten around values."""
    low, high = math.floor(math.log10(min(values)) + 1e-9), math.ceil(math.log10(max(values)) - 1e-9)
    return range(low, max(high, low + 1) + 1)


def panel(title, unit, lines):
    """Lines by name: {n: cost}."""
    numbers = [n for line in lines.values() for n in line]
    costs = [cost for line in lines.values() for cost in line.values()]
    columns, rows = decades(numbers), decades(costs)

    def x(n):
        return LEFT + (math.log10(n) - columns[0]) / (columns[-1] - columns[0]) * (WIDTH - LEFT)

    def y(cost):
        return TOP + (1 - (math.log10(cost) - rows[0]) / (rows[-1] - rows[0])) * (HEIGHT - TOP)

    parts = [text((LEFT + WIDTH) / 2, TOP - 14, title, size=13)]
    for power in rows:
        parts.append(f'<path d="M{LEFT} {y(10 ** power):.1f}H{WIDTH}" stroke="#ddd"/>')
        parts.append(text(LEFT - 6, y(10**power) + 4, si(10**power, unit), "end"))
    for power in columns:
        parts.append(f'<path d="M{x(10 ** power):.1f} {TOP}V{HEIGHT}" stroke="#ddd"/>')
        parts.append(text(x(10**power), HEIGHT + 16, si(10**power, "")))
    # The slope of linear growth, through the last point of the first line.
    line = next(iter(lines.values()))
    last, low = max(line), max(min(line), max(line) * 10 ** rows[0] / line[max(line)])
    slope = f"M{x(low):.1f} {y(line[last] * low / last):.1f}L{x(last):.1f} {y(line[last]):.1f}"
    parts.append(f'<path d="{slope}" stroke="#999" stroke-dasharray="4 4"/>')
    for name, line in lines.items():
        points = [f"{x(n):.1f} {y(cost):.1f}" for n, cost in sorted(line.items())]
        color = COLORS.get(name, "#555")
        parts.append(f'<path d="M{"L".join(points)}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts += [f'<circle cx="{point.split()[0]}" cy="{point.split()[1]}" r="3" fill="{color}"/>' for point in points]
    return parts


def figure(cause, panels):
    """The text of an SVG, three panels a row: each is (title, unit, lines)."""
    columns = min(3, len(panels))
    width, height = columns * (WIDTH + GAP), (len(panels) + 2) // 3 * (HEIGHT + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height + 20}" font-family="sans-serif">',
        f'<rect width="{width}" height="{height + 20}" fill="white"/>',
    ]
    for number, (title, unit, lines) in enumerate(panels):
        parts.append(f'<g transform="translate({number % 3 * (WIDTH + GAP)} {number // 3 * (HEIGHT + GAP)})">')
        parts += [*panel(title, unit, lines), "</g>"]
    for number, name in enumerate(dict.fromkeys(name for _, _, lines in panels for name in lines)):
        parts.append(f'<circle cx="{LEFT + 90 * number}" cy="{height + 6}" r="4" fill="{COLORS.get(name, "#555")}"/>')
        parts.append(text(LEFT + 10 + 90 * number, height + 10, name, "start"))
    parts.append(text(width - GAP, height + 10, f"by {cause}; dashed: linear", "end"))
    return "\n".join([*parts, "</svg>", ""])
