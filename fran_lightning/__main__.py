"""``python -m fran_lightning`` is the ``fran`` command."""

import sys

from fran_lightning.cli import main

sys.exit(main())
