"""``python -m thinkless.book run`` is short for ``thinkless book run``."""

import sys

from thinkless.__main__ import main

sys.exit(main(["book", *sys.argv[1:]]))
