"""`python -m mvai` is the `mvai` command."""

import sys

from mvai.cli import main

sys.exit(main())
