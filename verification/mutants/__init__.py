"""Small errors put into the source on purpose, to see whether the tests notice: `python -m verification mutants`.

`rooms` says which files are changed and which tests must notice, `mutator` how a source can be wrong, `server` runs the
tests on a copy of the package, `copies` starts it and talks to it, `ledger` keeps what was found, `report` and
`command` print it. `reasons.json` says why a mutant that survives is no fault of the tests.
"""

from verification.mutants.command import main
from verification.mutants.ledger import Ledger, Row
from verification.mutants.mutator import Mutant, mutants, mutated
from verification.mutants.rooms import ROOMS, Room, existing

__all__ = ["ROOMS", "Ledger", "Mutant", "Room", "Row", "existing", "main", "mutants", "mutated"]
