"""How Sphinx makes the site from these pages; ``sh docs/build`` runs it."""

import sys
from pathlib import Path

from amqplib import __version__

sys.path.insert(0, str(Path(__file__).parent))

project = 'amqplib'
copyright = 'the amqplib developers'
version = release = __version__

extensions = [
    'sphinx.ext.autodoc',
    'sphinx.ext.autosectionlabel',
    'charts',
    'diagrams',
    'docstrings',
]
autosectionlabel_prefix_document = True
# Versions have the same headings.
suppress_warnings = ['autosectionlabel.changes']
default_role = 'code'
smartquotes = False
add_module_names = False
exclude_patterns = ['_build']

# Nothing is fetched, so only names of this package are looked up.
nitpick_ignore_regex = [('py:.*', r'(?!amqplib\.).*')]

autodoc_member_order = 'bysource'
autodoc_typehints = 'none'

html_theme = 'furo'
pygments_dark_style = 'github-dark'
html_static_path = ['static']
html_css_files = ['site.css']
html_title = f'amqplib {__version__}'
html_show_sourcelink = False
html_copy_source = False
