"""Wrong claims and right answers, by the thousand, before the judge: `python -m verification judge`.

`wrong` is a table by hand, one file a rule; `trial` judges its rows, as written and in disguises. `worlds` draws
programs in numbers, `planes` says what is true of many of them at once, `fuzz` corrupts right answers, `right` asks for
those that must hold. `oracles` says what is true of one program, in rationals or to 40 digits; `command` runs it all
and prints tables.
"""

from verification.judge.command import Report, main, measured
from verification.judge.wrong import ROWS

__all__ = ["ROWS", "Report", "main", "measured"]
