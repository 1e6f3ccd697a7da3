"""The directive `bars`: the figures of the benchmark as bars, drawn when the site is made.

It takes names of works, separated by commas. Each becomes a small SVG in the colours of the page,
which says in text what it shows.
"""

import html
import json
import re
import statistics
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive

RESULTS = Path(__file__).parent / 'performance' / 'results.json'

WIDTH = 340
NAMES = 92  # the width of the clients' names
FIGURES = 56  # and of the figures
ROW = 18
TITLE = 26


class Bars(Directive):
    """Draw the CPU time of each client for some works."""

    has_content = True

    def run(self):
        self.state.document.settings.env.note_dependency(str(RESULTS))
        works = json.loads(RESULTS.read_text(encoding='utf-8'))['works']
        names = ' '.join(self.content).split(', ')
        drawn = ''.join(draw(name, works[name]) for name in names)
        return [nodes.raw('', f'<div class="bars">{drawn}</div>', format='html')]


def draw(name, clients):
    """Return the SVG of one work."""
    medians = {client: statistics.median(found['cpu']) for client, found in clients.items()}
    longest = max(medians.values())
    scale = (WIDTH - NAMES - FIGURES) / longest
    rows = ''.join(
        row(TITLE + ROW * number, client, median, median * scale)
        for number, (client, median) in enumerate(medians.items())
    )
    said = ', '.join(f'{client} {figure(median)}' for client, median in medians.items())
    return (
        f'<svg viewBox="0 0 {WIDTH} {TITLE + ROW * len(medians)}" role="img" '
        f'aria-label="{titled(name)}: {html.escape(said)}">'
        f'<text class="title" x="0" y="16">{titled(name)}, µs</text>{rows}</svg>'
    )


def row(y, client, median, width):
    ours = ' class="ours"' if client == 'amqplib' else ''
    return (
        f'<g{ours}><text x="{NAMES - 6}" y="{y + 12}" text-anchor="end">{client}</text>'
        f'<rect x="{NAMES}" y="{y + 2}" width="{width:.1f}" height="{ROW - 5}"/>'
        f'<text x="{NAMES + width + 5:.1f}" y="{y + 12}">{figure(median)}</text></g>'
    )


def titled(name):
    """Return the name of a work, with its size in KiB."""
    return re.sub(r'(\d{4,}) B', lambda size: f'{int(size[1]) // 1024} KiB', name)


def figure(value):
    """Return three digits of a number, or all of those before the point."""
    return f'{value:.{2 if value < 10 else 1 if value < 100 else 0}f}'


def setup(app):
    app.add_directive('bars', Bars)
    return {'parallel_read_safe': True}
