"""Wrong claims by hand, one file a rule: each with the right answer beside it, and why it is wrong."""

from verification.judge.wrong import rule_1, rule_2, rule_3, rule_4, rule_5, rule_6, rule_7, rule_8, rule_9
from verification.judge.wrong.row import ACCEPTED, Right, Row

__all__ = ["ACCEPTED", "ROWS", "Right", "Row"]

ROWS: tuple[Row, ...] = (
    *rule_1.ROWS, *rule_2.ROWS, *rule_3.ROWS, *rule_4.ROWS, *rule_5.ROWS, *rule_6.ROWS, *rule_7.ROWS, *rule_8.ROWS,
    *rule_9.ROWS,
)  # fmt: skip
