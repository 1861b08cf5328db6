"""Draws how building grows: seconds and peak memory over tokens, one line for each --memory."""
WIDTH, HEIGHT, LEFT, TOP, PANEL, GAP = 760, 330, 56, 40, 290, 84
COLOURS = ("#0b6e99", "#c2571a")  # of the first --memory and the second


def nice(top):
    """The least of 1, 2, 5 times a power of ten whose fivefold reaches `top`: the axis' step."""
    step = 1e-3
    while True:
        for k in (1, 2, 5):
            if step * k * 5 >= top:
                return step * k
        step *= 10


def stroke(i):
    """Of the i-th series: a colour for each --memory, dashed where it is not wall time."""
    dashes = ' stroke-dasharray="4 3"' if i >= len(COLOURS) else ""
    return f'stroke="{COLOURS[i % len(COLOURS)]}" stroke-width="2"{dashes}'


def panel(left, title, series, reach):
    """series: {name: [(tokens in millions, value)]}."""
    high = max(v for points in series.values() for _, v in points)
    step = nice(high)
    ceiling, bottom = step * 5, TOP + 230
    x = lambda t: left + t / reach * PANEL
    y = lambda v: bottom - v / ceiling * 230
    out = [f'<text x="{left}" y="{TOP - 16}" font-weight="600">{title}</text>']
    for i in range(6):
        v = step * i
        out.append(f'<line x1="{left}" x2="{left + PANEL}" y1="{y(v):.1f}" y2="{y(v):.1f}" stroke="#8884" />'
                   f'<text x="{left - 6}" y="{y(v) + 4:.1f}" text-anchor="end">{v:g}</text>')
    ticks = sorted({t for points in series.values() for t, _ in points})
    for t in ticks:
        out.append(f'<text x="{x(t):.1f}" y="{bottom + 18}" text-anchor="middle">{t:.0f} M</text>')
    for i, (name, points) in enumerate(series.items()):
        path = " ".join(f"{x(t):.1f},{y(v):.1f}" for t, v in points)
        out.append(f'<polyline points="{path}" fill="none" {stroke(i)} />')
        out += [f'<circle cx="{x(t):.1f}" cy="{y(v):.1f}" r="3" fill="{COLOURS[i % len(COLOURS)]}"><title>{name}: {v:.2f}</title></circle>' for t, v in points]
    return out


def draw(points, path):
    """points: [{"tokens", "memory", "wall_s", "cpu_s", "own_bytes"}]."""
    names = list(dict.fromkeys(p["memory"] for p in points))
    pick = lambda m, f: [(p["tokens"] / 1e6, f(p)) for p in points if p["memory"] == m]
    reach = max(p["tokens"] for p in points) / 1e6 * 1.04
    wall, cpu = "--memory {}: wall".format, "--memory {}: processors' time".format
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="system-ui, sans-serif" font-size="12" fill="#888">',
           "<title>Building an index from tokens: seconds and peak memory over the number of tokens</title>"]
    seconds = {wall(m): pick(m, lambda p: p["wall_s"]) for m in names} | {cpu(m): pick(m, lambda p: p["cpu_s"]) for m in names}
    out += panel(LEFT, "seconds, two threads", seconds, reach)
    out += panel(LEFT + PANEL + GAP, "peak memory, GB", {m: pick(m, lambda p: p["own_bytes"] / 1e9) for m in names}, reach)
    for i, name in enumerate(seconds):
        at = LEFT + i * 175
        out.append(f'<line x1="{at}" x2="{at + 16}" y1="{HEIGHT - 18}" y2="{HEIGHT - 18}" {stroke(i)} /><text x="{at + 22}" y="{HEIGHT - 14}">{name}</text>')
    with open(path, "w") as f:
        f.write("\n".join(out + ["</svg>"]) + "\n")
