"""How a difference passes an operation: exact rules where there are any, `f(clean + difference) - f(clean)` elsewhere.

All rules give exactly zero where the differences are exactly zero. `rule_table` has the rule of each operation.
"""

from selfrepair.engine.delta.rules.call import Call as Call
from selfrepair.engine.delta.rules.call import Values as Values
from selfrepair.engine.delta.rules.rule_table import RULES as RULES
from selfrepair.engine.delta.rules.rule_table import apply as apply
