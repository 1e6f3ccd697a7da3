"""The directive `diagram`: boxes in rows, with arrows from each row to the next.

A line is a row: `box | box -- what they are`. A line that begins with `>` is written on the arrow
to the next row. The result is text in HTML, so it fits narrow pages and takes their colours.
"""

import html

from docutils import nodes
from docutils.parsers.rst import Directive


class Diagram(Directive):
    """Draw the rows."""

    has_content = True

    def run(self):
        rows = []
        said = ''
        for line in self.content:
            if line.startswith('>'):
                said = line[1:].strip()
                continue
            if rows:
                rows.append(f'<div class="arrow">↓ <em>{html.escape(said)}</em></div>')
            rows.append(row(*line.partition(' -- ')[::2]))
            said = ''
        return [nodes.raw('', f'<div class="diagram">{"".join(rows)}</div>', format='html')]


def row(boxes, note):
    drawn = ''.join(f'<code>{html.escape(box.strip())}</code>' for box in boxes.split('|'))
    return f'<div class="row"><div>{drawn}</div><p>{html.escape(note)}</p></div>'


def setup(app):
    app.add_directive('diagram', Diagram)
    return {'parallel_read_safe': True}
