"""Builds what users download, and tries it as they get it.

    python tests/package/check.py

It builds the sdist and the wheel in a temporary folder, has twine check their metadata, looks at
what is in them, runs the unit tests from the unpacked sdist, and installs the wheel into an empty
environment, where a message goes through the broker in the process, by each client. It needs build
and twine, and the packages that the tests need.
"""

import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

#: What the top of each archive may hold; the rest of a checkout stays at home.
WHEEL_FOLDERS = {'amqplib', 'amqplib-{version}.dist-info'}
SDIST_ENTRIES = {
    'CHANGES.txt', 'CONTRIBUTING.txt', 'LICENSE', 'MANIFEST.in', 'PKG-INFO', 'README.txt',
    'SECURITY.txt', 'amqplib', 'amqplib.egg-info', 'benchmarks', 'demo', 'docs', 'pyproject.toml',
    'setup.cfg', 'setup.py', 'tests',
}  # fmt: skip

SMOKE = """
from amqplib import client_0_8, client_0_9_1, testing
with testing.Broker() as broker:
    for client in (client_0_8, client_0_9_1):
        with client.Connection.from_url(broker.url) as conn, conn.channel() as ch:
            ch.queue_declare('smoke', exclusive=True)
            ch.basic_publish(client.Message('hello'), routing_key='smoke')
            assert ch.basic_get('smoke', no_ack=True).body == 'hello', client
"""


def run(*command, cwd=None):
    """Run a command; show what it prints, and stop if it fails."""
    print('$', *command, flush=True)
    subprocess.run(list(map(str, command)), cwd=cwd, check=True)


def check_names(archive, names, allowed):
    """Stop if an archive holds something at its top that is not allowed, or what is not source."""
    unexpected = {name.split('/')[0] for name in names} - allowed
    unexpected.update(name for name in names if name.endswith(('.pyc', '.so', '.log')))
    if unexpected:
        sys.exit(f'{archive.name}: it must not hold {sorted(unexpected)}')
    print(f'{archive.name}: {len(names)} files, {archive.stat().st_size // 1024} KiB')


def check_wheel(wheel, folder):
    """Look at what is in the wheel, and use it in an environment that has nothing else."""
    version = wheel.name.split('-')[1]
    names = zipfile.ZipFile(wheel).namelist()
    check_names(wheel, names, {name.format(version=version) for name in WHEEL_FOLDERS})
    venv.create(folder / 'venv', with_pip=True)
    python = folder / 'venv' / ('Scripts' if sys.platform == 'win32' else 'bin') / 'python'
    run(python, '-m', 'pip', 'install', '--quiet', '--no-index', wheel)
    run(python, '-I', '-W', 'error', '-c', SMOKE, cwd=folder)
    run(python.with_name('amqplib'), '--version')


def check_sdist(sdist, folder):
    """Look at what is in the sdist, and run its unit tests from where it is unpacked."""
    with tarfile.open(sdist) as archive:
        names = [member.name.partition('/')[2] for member in archive if member.isfile()]
        archive.extractall(folder)
    check_names(sdist, names, SDIST_ENTRIES)
    run(sys.executable, '-m', 'pytest', '-q', 'tests/core', cwd=folder / sdist.name[:-7])


def main():
    """Build both, and check both."""
    with tempfile.TemporaryDirectory(prefix='amqplib-package-') as name:
        folder = Path(name)
        run(sys.executable, '-m', 'build', '--outdir', folder / 'dist', ROOT)
        (sdist,), (wheel,) = (folder / 'dist').glob('*.tar.gz'), (folder / 'dist').glob('*.whl')
        run(sys.executable, '-m', 'twine', 'check', '--strict', sdist, wheel)
        check_wheel(wheel, folder)
        check_sdist(sdist, folder)


if __name__ == '__main__':
    main()
