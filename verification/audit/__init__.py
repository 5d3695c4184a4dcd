"""`python -m verification audit`: the steps of other libraries against the certified optimum of their program.

`peers` says how each library is called, `measure` what its step is worth, `counterexample` on which smallest program it
falls short, `table` and `command` print and save it. The libraries are the extra `peers`; without them the audit says
which are missing.
"""

from verification.audit.command import audit, main
from verification.audit.counterexample import counterexample
from verification.audit.measure import Measured, measure
from verification.audit.peers import STEPS, Step
from verification.audit.table import Row, markdown, row_of, save, show

__all__ = [
    "STEPS",
    "Measured",
    "Row",
    "Step",
    "audit",
    "counterexample",
    "main",
    "markdown",
    "measure",
    "row_of",
    "save",
    "show",
]
