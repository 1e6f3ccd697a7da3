"""Docstrings as reStructuredText, for Sphinx.

The docstrings are written to be read as plain text, by help(). An argument is a line such as
`timeout: seconds to wait`, whose other lines are indented; here it becomes an entry of a list.
"""

import re

from amqplib import client_0_8, client_0_9_1, exceptions

ENTRY = re.compile(r'(?P<names>[a-z]\w*(?:, [a-z]\w*)*): (?P<text>\S.*)')
ERROR = re.compile(rf'(?<![\w.`])({"|".join(exceptions.__all__)})\b')


def setup(app):
    app.setup_extension('sphinx.ext.autodoc')
    app.connect('autodoc-process-docstring', process)
    return {'parallel_read_safe': True}


def process(app, what, name, obj, options, lines):
    """Change the lines of a docstring in place."""
    changed = list(as_lists(lines))
    if only_in_0_9_1(name):
        changed += ['', '*Only in AMQP 0-9-1.*', '']
    lines[:] = changed


def as_lists(lines):
    """Yield the lines with entries as definitions; a paragraph is all entries, or none."""
    entries = literal = False
    before = ''
    for line in lines:
        literal = (literal and (not line or line[0] == ' ')) or line.endswith('::')
        entry = None if literal else ENTRY.fullmatch(line)
        entries = entry is not None if not before else entries
        before = line
        if entry is None or not entries:
            yield line if literal else link_errors(line)
            continue
        yield ', '.join(f'**{name}**' for name in entry['names'].split(', '))
        yield '    ' + link_errors(entry['text'])


def link_errors(line):
    return ERROR.sub(r':exc:`~amqplib.exceptions.\1`', line)


def only_in_0_9_1(name):
    """Whether this is a member that the class of the other client lacks."""
    found = re.fullmatch(r'amqplib\.client_0_9_1\.(\w+)\.(\w+)', name)
    if found is None:
        return False
    owner, member = found.groups()
    classes = getattr(client_0_8, owner, None), getattr(client_0_9_1, owner, None)
    return [hasattr(one, member) for one in classes] == [False, True]
