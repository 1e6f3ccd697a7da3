"""The tables of results, and whether the limits hold."""

from __future__ import annotations

import json
import re
from statistics import median, quantiles

from clients import C_CLIENTS, CLIENTS, OURS, PEERS
from works import (
    BARE_LIMIT,
    DOUBLE_LIMIT,
    HUGE,
    IMPORT_LIMIT,
    MAIN_WORKS,
    PEAK_LIMIT,
    WALL_LIMIT,
    WORKS,
)

# --- Figures -----------------------------------------------------------------


def figures(results, work, clock):
    """Return {client: median in microseconds a message} of a work, or {}."""
    found = results['works'].get(work, {})
    return {client: median(times[clock]) for client, times in found.items()}


def system_shares(results, work):
    """Return {client: percentage of the CPU time that is the system's}.

    Systems only sample which of the two it is, so this is over all rounds together.
    """
    found = results['works'].get(work, {})
    return {
        client: 100 * min(1.0, sum(times['system']) / sum(times['cpu']))
        for client, times in found.items()
    }


def best_peer(times):
    """Return the cheapest of the other pure-Python clients; None if there is none."""
    return min((peer for peer in PEERS if peer in times), key=times.get, default=None)


def import_times(results):
    return {client: median(times) * 1e3 for client, times in results.get('imports', {}).items()}


def huge_figures(results, size, name):
    return {
        client: median(sizes[str(size)][name]) for client, sizes in results.get('huge', {}).items()
    }


# --- Limits ------------------------------------------------------------------


def limit(what, ours, other, against, most, unit='us', ratio=None):
    """Return one row of the table of limits."""
    ratio = ours / other if ratio is None else ratio
    return {
        'what': what,
        'ours': ours,
        'other': other,
        'against': against,
        'unit': unit,
        'ratio': ratio,
        'at_most': most,
        'holds': ratio <= most,
    }


def limits(results):
    """Return a row for each limit whose two sides were both measured."""
    return [
        *work_limits(results),
        *c_limits(results),
        *wall_limits(results),
        *bare_limits(results),
        *import_limits(results),
        *huge_limits(results),
    ]


def work_limits(results):
    for work in MAIN_WORKS:
        times = figures(results, work.name, 'cpu')
        peer = best_peer(times)
        if work.limit and peer and OURS in times:
            yield limit(work.name, times[OURS], times[peer], peer, work.limit)


def c_limits(results):
    for work in MAIN_WORKS:
        times = figures(results, work.name, 'cpu')
        for client in C_CLIENTS:
            if work.c_limit and OURS in times and client in times:
                yield limit(work.name, times[OURS], times[client], client, work.c_limit)


def wall_limits(results):
    times = figures(results, 'consume', 'wall')
    for client in C_CLIENTS:
        if OURS in times and client in times:
            yield limit('consume, wall time', times[OURS], times[client], client, WALL_LIMIT)


def bare_limits(results):
    bare = results.get('bare')
    if bare:
        ours, other = bare[OURS] * 1e6, bare['bare socket'] * 1e6
        ratio = median(bare['ratios'])
        yield limit('round trip, wall time', ours, other, 'bare socket', BARE_LIMIT, ratio=ratio)


def import_limits(results):
    times = import_times(results)
    if OURS in times and 'py-amqp' in times:
        yield limit('import', times[OURS], times['py-amqp'], 'py-amqp', IMPORT_LIMIT, 'ms')


def huge_limits(results):
    peaks = huge_figures(results, HUGE, 'peak')
    if OURS in peaks:
        megabytes = HUGE / 1e6
        yield limit(
            '100 MB body, memory', peaks[OURS] * megabytes, megabytes, 'the body', PEAK_LIMIT, 'MB'
        )
        whole = huge_figures(results, HUGE, 'cpu')[OURS] * 1e3
        half = huge_figures(results, HUGE // 2, 'cpu')[OURS] * 1e3
        yield limit('100 MB body', whole, half, '50 MB body', DOUBLE_LIMIT, 'ms')


# --- Text --------------------------------------------------------------------


def as_text(results):
    """Return all tables."""
    parts = [
        heading(results['facts']),
        work_table(results, 'CPU', 'cpu', 'user and system time of the client process'),
        share_table(results),
        work_table(results, 'Wall', 'wall', 'from the first message to the last'),
        other_table(results),
        limit_table(results),
        notes(results),
    ]
    return '\n\n'.join(part for part in parts if part) + '\n'


def heading(facts):
    return (
        f'{facts["python"]} on {facts["system"]}, {facts["cores"]} cores; {facts["broker"]}\n'
        f'{", ".join(" ".join(pair) for pair in facts["versions"].items())}\n'
        f'medians of {facts["rounds"]} rounds in turn, or more of short ones; the number behind a '
        f'work is that of messages a round; measured in {facts["seconds"]} s'
    )


def work_table(results, title, clock, explanation):
    """Return a table of microseconds a message."""
    found = {}
    for work in WORKS:
        times = figures(results, work.name, clock)
        if times:
            count = next(iter(results['works'][work.name].values()))['messages']
            found[f'{work.name} ({count})'] = times
    return client_table(f'{title} microseconds a message: {explanation}', found)


def share_table(results):
    """Return a table of the share of the operating system in the CPU time."""
    found = {work.name: system_shares(results, work.name) for work in MAIN_WORKS}
    title = 'Share of the operating system in the CPU time, percent'
    return client_table(title, found, '{:.0f}'.format)


def client_table(title, found, text=None):
    """Return a table of {what: {client: value}}; '' if nothing was measured."""
    found = {name: values for name, values in found.items() if values}
    if not found:
        return ''
    clients = clients_of(list(found.values()))
    rows = [['', *clients]]
    for name, values in found.items():
        cells = (values.get(client) for client in clients)
        rows.append([name, *('-' if cell is None else (text or number)(cell) for cell in cells)])
    return f'{title}\n\n{table(rows)}'


def other_table(results):
    lines = {
        'import, CPU ms': import_times(results),
        '1,000 idle channels, KiB each': {
            client: size / 1024 / 1000 for client, size in results.get('channels', {}).items()
        },
        '50 MB body out and back, CPU ms': scaled(huge_figures(results, HUGE // 2, 'cpu'), 1e3),
        '100 MB body out and back, CPU ms': scaled(huge_figures(results, HUGE, 'cpu'), 1e3),
        '100 MB body, wall ms': scaled(huge_figures(results, HUGE, 'wall'), 1e3),
        '100 MB body, memory in bodies': huge_figures(results, HUGE, 'peak'),
    }
    return client_table('Other costs', lines)


def scaled(found, factor):
    return {client: value * factor for client, value in found.items()}


def limit_table(results):
    rows = [['', OURS, 'against', '', 'ratio', 'at most', '']]
    for row in results['limits']:
        unit = row['unit']
        rows.append([
            row['what'],
            f'{number(row["ours"])} {unit}',
            f'{number(row["other"])} {unit}',
            row['against'],
            f'{row["ratio"]:.3f}',
            f'{row["at_most"]:.2f}',
            'holds' if row['holds'] else 'DOES NOT HOLD',
        ])  # fmt: skip
    if len(rows) == 1:
        return ''
    title = f'{OURS} beside the best client in pure Python, those in C, and others'
    return f'{title}\n\n{table(rows)}{bare_note(results)}'


def bare_note(results):
    """Return how much the ratios to the bare socket vary."""
    if 'bare' not in results:
        return ''
    lower, _, upper = quantiles(results['bare']['ratios'])
    text = 'round trip: the median of {} pairs of blocks; half of them are from {:.3f} to {:.3f}'
    return '\n\n' + text.format(len(results['bare']['ratios']), lower, upper)


def notes(results):
    lines = list(results['notes'])
    lines += [
        f'{failure["client"]} failed at {failure["work"]!r} and is left out there: '
        f'{failure["error"]}'
        for failure in results['failures']
    ]
    return '\n'.join(lines)


def clients_of(rows):
    """Return the clients that occur in any row."""
    return [client for client in CLIENTS if any(client in row for row in rows)]


def number(value):
    return f'{value:.0f}' if value >= 1000 else f'{value:.1f}' if value >= 10 else f'{value:.2f}'


def table(rows):
    """Return rows of texts as aligned columns, the first one left-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return '\n'.join(
        '  '.join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    )


# --- All figures -------------------------------------------------------------


def as_json(results):
    """Return the results as JSON, the figures of all rounds in a line."""
    text = json.dumps(results, indent=1)
    return re.sub(r'\[[^][{}]*\]', lambda found: ' '.join(found[0].split()), text) + '\n'
