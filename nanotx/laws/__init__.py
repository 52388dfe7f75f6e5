"""Laws: what every part of a slot must do, as plain functions that raise `LawBroken` with the case that breaks them.

A test draws random cases for them (`attempt`), the author of a part runs the same ones on it (`nanotx laws`), and a
benchmark times only what obeys them.
"""

from nanotx.laws.book import LAWS as LAWS
from nanotx.laws.config import config_round_trip as config_round_trip
from nanotx.laws.durability import disk_record as disk_record
from nanotx.laws.durability import durable as durable
from nanotx.laws.equality import cache_agrees as cache_agrees
from nanotx.laws.equality import equivalent as equivalent
from nanotx.laws.numbers import compile_agrees as compile_agrees
from nanotx.laws.numbers import finite as finite
from nanotx.laws.numbers import keeps_scale as keeps_scale
from nanotx.laws.numbers import near_cast as near_cast
from nanotx.laws.numbers import near_in as near_in
from nanotx.laws.numbers import state_is_all as state_is_all
from nanotx.laws.place import bias_stated as bias_stated
from nanotx.laws.place import distance_alone as distance_alone
from nanotx.laws.place import far_alike as far_alike
from nanotx.laws.place import lengths_kept as lengths_kept
from nanotx.laws.place import no_place_twice as no_place_twice
from nanotx.laws.place import placed_alike as placed_alike
from nanotx.laws.place import places_differ as places_differ
from nanotx.laws.place import places_kept as places_kept
from nanotx.laws.place import stays_itself as stays_itself
from nanotx.laws.sampling import capped as capped
from nanotx.laws.sampling import probabilities_match_reference as probabilities_match_reference
from nanotx.laws.sampling import reference_probabilities as reference_probabilities
from nanotx.laws.sampling import reference_ranking as reference_ranking
from nanotx.laws.sampling import reference_stop as reference_stop
from nanotx.laws.sampling import reference_window as reference_window
from nanotx.laws.sampling import samples_match_reference as samples_match_reference
from nanotx.laws.sampling import stops_match_reference as stops_match_reference
from nanotx.laws.sampling import stream_matches_decode as stream_matches_decode
from nanotx.laws.text import lossless as lossless
from nanotx.laws.time import causal as causal
from nanotx.laws.time import felt as felt
from nanotx.laws.time import influence as influence
from nanotx.laws.time import window as window
from nanotx.laws.trial import attempt as attempt
from nanotx.laws.trial import replay as replay
from nanotx.laws.values import alone as alone
from nanotx.laws.values import right_padding as right_padding
from nanotx.laws.values import rows as rows
from nanotx.laws.values import time_prefix as time_prefix
