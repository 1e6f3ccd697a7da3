"""Measures amqplib and other clients; needs AMQPLIB_BROKER=host:port (see run).

It shows progress on standard error and the tables on standard output. The tables, and all figures
as JSON, are written to the folder that --output names.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import time
from importlib import metadata
from pathlib import Path

import report
from clients import BINDING, BINDING_FOLDER, CLIENTS, LOOPS, ORIGINAL
from feeder import Feeder
from measuring import Measuring
from works import EXTRAS, WORKS

HERE = Path(__file__).resolve().parent
FULL_OUTPUT = HERE.parent / 'docs' / 'performance'
PARTIAL_OUTPUT = HERE / 'results'

FULL = {'rounds': 5, 'messages': 10000, 'imports': 15, 'huge_rounds': 3, 'sessions': 10}
QUICK = {'rounds': 3, 'messages': 2000, 'imports': 5, 'huge_rounds': 1, 'sessions': 3}


def parse_args(args):
    parser = argparse.ArgumentParser(prog='sh benchmarks/run', description=__doc__)
    parser.add_argument('--quick', action='store_true', help='fewer messages and rounds')
    parser.add_argument('--rounds', type=int, help='rounds of each measurement; 5, with --quick 3')
    parser.add_argument(
        '--messages', type=int, help='small messages in a round; 10000, with --quick 2000'
    )
    names = [*(work.name for work in WORKS), *EXTRAS]
    parser.add_argument(
        '--only',
        nargs='+',
        metavar='WORK',
        help=f'only these, or those that begin so: {", ".join(map(repr, names))}',
    )
    parser.add_argument(
        '--clients',
        nargs='+',
        choices=CLIENTS,
        metavar='CLIENT',
        help=f'only these: {", ".join(CLIENTS)}',
    )
    parser.add_argument(
        '--output',
        type=Path,
        help='folder for the results; docs/performance if everything is measured, '
        'else benchmarks/results',
    )
    options = parser.parse_args(args)
    options.full = not (
        options.quick or options.only or options.clients or options.messages or options.rounds
    )
    for name, value in (QUICK if options.quick else FULL).items():
        if getattr(options, name, None) is None:
            setattr(options, name, value)
    if options.output is None:
        options.output = FULL_OUTPUT if options.full else PARTIAL_OUTPUT
    return parser, options


def wanted(name, only):
    return only is None or any(name.startswith(beginning) for beginning in only)


def choose_clients(names):
    """Return the clients that are installed, and why others are left out."""
    chosen, notes = [], []
    for name in names or CLIENTS:
        needs = CLIENTS[name].needs
        if needs and not needs[0].exists():
            notes.append(f'{name} is left out: {needs[1]}')
        else:
            chosen.append(name)
    return chosen, notes


def versions(clients):
    """Return {client: version} of the clients that are packages."""
    packages = {'py-amqp': 'amqp'}
    found = {
        name: metadata.version(packages.get(name, name))
        for name in clients
        if name not in {BINDING, LOOPS, ORIGINAL}
    }
    for installed in metadata.distributions(path=[str(BINDING_FOLDER)]):
        if BINDING in clients:
            found[BINDING] = installed.version
    return found


def facts(feeder, clients, options):
    return {
        'python': f'{platform.python_implementation()} {platform.python_version()}',
        'system': f'{platform.system()} {platform.machine()}',
        'cores': os.cpu_count(),
        'broker': feeder.broker(),
        'versions': versions(clients),
        'rounds': options.rounds,
        'messages': options.messages,
    }


def end_by_signal(signum, frame):
    raise SystemExit(128 + signum)


def split_address(address):
    host, _, port = address.rpartition(':')
    return host.strip('[]'), int(port)


def measure(options, works, extras):
    """Return all results, as they are for the JSON file."""
    clients, notes = choose_clients(options.clients)
    host, port = split_address(os.environ['AMQPLIB_BROKER'])
    feeder = Feeder(host, port, f'amqplib.benchmark.{os.getpid()}')
    measuring = Measuring(host, port, feeder, clients, options)
    begin = time.monotonic()
    try:
        measuring.check_clients()
        for number, work in enumerate(works, 1):
            measuring.say(f'[{number}/{len(works)}] {work.name}')
            measuring.measure_work(work)
        for name in extras:
            measuring.say(f'{EXTRAS[name]}')
            getattr(measuring, 'measure_' + name)()
    finally:
        measuring.close()
        feeder_facts = facts(feeder, clients, options)
        feeder.close()
    feeder_facts['seconds'] = round(time.monotonic() - begin)
    return {'facts': feeder_facts, 'notes': notes, **measuring.results}


def write(results, folder):
    folder.mkdir(parents=True, exist_ok=True)
    text = report.as_text(results)
    (folder / 'table.txt').write_text(text, encoding='utf-8')
    (folder / 'results.json').write_text(report.as_json(results), encoding='utf-8')
    print(text)
    print(f'written to {os.path.relpath(folder)}')


def main(args):
    parser, options = parse_args(args)
    works = [work for work in WORKS if wanted(work.name, options.only)]
    extras = [name for name in EXTRAS if wanted(name, options.only)]
    if not works and not extras:
        parser.error(f'there is no such work: {" ".join(options.only)}')
    for signum in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, end_by_signal)
    results = measure(options, works, extras)
    results['limits'] = report.limits(results)
    write(results, options.output)


if __name__ == '__main__':
    main(sys.argv[1:])
