"""``python -m pullback.study FILE``: read a study and say where its page is; in one line, why it cannot run.

For ``make run``: Snakemake itself reads the file before any code of this package, and shows a traceback of one that is
not there or not UTF-8.
"""

import sys
from pathlib import Path

from pullback.study import StudyError, paths, read_study

try:
    page = Path(paths.report(read_study(sys.argv[1]).study))
except StudyError as error:
    sys.exit(f"pullback: {error}")
if page.exists():
    print(f"The report of the last run: {page.resolve()}")
