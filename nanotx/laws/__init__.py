"""Laws: what every part of a slot must do, as plain functions that raise `LawBroken` with the case that breaks them.

A test draws random cases for them; the author of a part runs the same ones on it; a benchmark times only what
obeys them.
"""

from nanotx.laws.config import config_round_trip as config_round_trip
from nanotx.laws.equality import cache_agrees as cache_agrees
from nanotx.laws.equality import equivalent as equivalent
from nanotx.laws.equality import time_prefix as time_prefix
from nanotx.laws.text import lossless as lossless
from nanotx.laws.time import causal as causal
