"""Training in several processes ("ranks"): every use of `torch.distributed` is in this package.

`tree` fixes the order in which micro-batches are summed, `ranks` is what the trainer sees of processes that train
together, `group` sums over them, `agreement` lets them hear of each other's errors and signals, `buckets` sends
gradients while others are computed, `owners` divides the optimizer's state, `slices` the weights too, of which
`matrices` makes whole ones for Muon and `table_rows` knows the rows that were read, `simulated` is one rank without the
others, `join` connects the processes that a launcher has started, `network` lets them notice the loss of a machine, and
`launch` starts them on one machine. The model knows nothing of it.
"""

from nanotx.distributed.group import Group
from nanotx.distributed.owners import divide
from nanotx.distributed.ranks import AVERAGE, STATE, WEIGHT, Alone, Order, Parallel, Ranks, rows_of
from nanotx.distributed.shares import check_parallel, check_shares
from nanotx.distributed.tree import Sum, tree_sum

__all__ = [
    "AVERAGE",
    "STATE",
    "WEIGHT",
    "Alone",
    "Group",
    "Order",
    "Parallel",
    "Ranks",
    "Sum",
    "check_parallel",
    "check_shares",
    "divide",
    "rows_of",
    "tree_sum",
]
