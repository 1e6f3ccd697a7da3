"""Charts of the results, each as SVG and PNG."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
from clients import CLIENTS, OURS
from report import figures, number
from works import MAIN_WORKS, SIZES, name_of

#: The same colour for a client in every chart.
COLOURS = dict(
    zip(
        CLIENTS,
        (
            '#d62728',
            '#ff9896',
            '#1f77b4',
            '#2ca02c',
            '#9467bd',
            '#8c564b',
            '#7f7f7f',
            '#bdbdbd',
        ),
    )
)
CPU = 'CPU microseconds per message'


def draw(results, folder):
    """Draw charts of the results that there are."""
    mpl.use('Agg')  # needs no display
    # Otherwise the files would differ each time.
    mpl.rcParams['svg.hashsalt'] = 'amqplib'
    mpl.rcParams['font.size'] = 9
    draw_works(results, folder)
    for kind in ('publish', 'consume'):
        draw_sizes(results, folder, kind)


def draw_works(results, folder):
    """Draw bars for each work; the shortest bar is the cheapest client."""
    found = {work.name: figures(results, work.name, 'cpu') for work in MAIN_WORKS}
    found = {name: times for name, times in found.items() if times}
    if not found:
        return
    rows = (len(found) + 1) // 2
    figure, axes = plt.subplots(rows, 2, figsize=(9, 2.1 * rows), squeeze=False)
    for axis in axes.flat[len(found) :]:
        axis.set_visible(False)
    for axis, (name, times) in zip(axes.flat, found.items()):
        draw_bars(axis, name, times)
    figure.suptitle(f'{CPU}: less is better')
    save(figure, folder, 'cpu-by-work')


def draw_bars(axis, name, times):
    clients = list(times)
    colours = [COLOURS[client] for client in clients]
    bars = axis.barh(clients, list(times.values()), color=colours)
    axis.bar_label(bars, fmt=number, padding=2)
    axis.invert_yaxis()
    axis.margins(x=0.2)
    axis.set_title(name)
    axis.spines[['top', 'right']].set_visible(False)
    for label in axis.get_yticklabels():
        label.set_fontweight('bold' if label.get_text() == OURS else 'normal')


def draw_sizes(results, folder, kind):
    """Draw a line for each client, small to large bodies."""
    by_size = {size: figures(results, name_of(kind, size), 'cpu') for size in SIZES}
    by_size = {size: times for size, times in by_size.items() if times}
    if len(by_size) < 2:
        return
    figure, axis = plt.subplots(figsize=(7, 4.5))
    for client in CLIENTS:
        points = [(size, times[client]) for size, times in by_size.items() if client in times]
        if points:
            draw_line(axis, client, points)
    axis.set(xscale='log', yscale='log', xlabel='size of the body, bytes', ylabel=CPU)
    axis.set_xticks(list(by_size), [size_text(size) for size in by_size])
    axis.minorticks_off()
    axis.grid(visible=True, alpha=0.3)
    axis.legend()
    axis.set_title(f'{kind}: less is better')
    save(figure, folder, f'{kind}-by-size')


def draw_line(axis, client, points):
    width = 2.5 if client == OURS else 1.2
    axis.plot(*zip(*points), marker='o', markersize=3, linewidth=width, label=client,
              color=COLOURS[client])  # fmt: skip


def size_text(size):
    for unit, factor in (('MiB', 1024 * 1024), ('KiB', 1024)):
        if size >= factor:
            return f'{size // factor} {unit}'
    return f'{size} B'


def save(figure, folder, name):
    figure.tight_layout()
    figure.savefig(folder / f'{name}.svg', metadata={'Date': None})
    figure.savefig(folder / f'{name}.png', dpi=150)
    plt.close(figure)
