"""Laws: properties of every part of a slot, as plain functions that raise `LawBroken` with the case that breaks them.

A test draws random cases for them (`attempt`), the author of a part runs the same ones on it (`nanotx laws`), and a
benchmark times only what obeys them.

`laws/*.py` state the properties. `laws/cases/*.py` draw the cases, and say to which slots each property applies.
"""

from nanotx.laws.adapting import frozen_stays as frozen_stays
from nanotx.laws.adapting import merges as merges
from nanotx.laws.adapting import starts_equal as starts_equal
from nanotx.laws.all_laws import LAWS as LAWS
from nanotx.laws.chatting import chat_as_taught as chat_as_taught
from nanotx.laws.chatting import typed_names_are_text as typed_names_are_text
from nanotx.laws.config import config_round_trip as config_round_trip
from nanotx.laws.documents import documents_apart as documents_apart
from nanotx.laws.documents import loss_alone as loss_alone
from nanotx.laws.durability import disk_record as disk_record
from nanotx.laws.durability import durable as durable
from nanotx.laws.equality import cache_agrees as cache_agrees
from nanotx.laws.equality import equivalent as equivalent
from nanotx.laws.init import init_as_stated as init_as_stated
from nanotx.laws.init import init_drawn_by_name as init_drawn_by_name
from nanotx.laws.losses import batch_mean as batch_mean
from nanotx.laws.losses import chunk_invariant as chunk_invariant
from nanotx.laws.losses import reports_cross_entropy as reports_cross_entropy
from nanotx.laws.numbers import bf16_close as bf16_close
from nanotx.laws.numbers import cast_close as cast_close
from nanotx.laws.numbers import compile_agrees as compile_agrees
from nanotx.laws.numbers import finite as finite
from nanotx.laws.numbers import scale_invariant as scale_invariant
from nanotx.laws.numbers import state_complete as state_complete
from nanotx.laws.passes import one_pass as one_pass
from nanotx.laws.positions import adds_bias as adds_bias
from nanotx.laws.positions import distinct as distinct
from nanotx.laws.positions import informative as informative
from nanotx.laws.positions import local as local
from nanotx.laws.positions import norm_preserving as norm_preserving
from nanotx.laws.positions import out_of_range as out_of_range
from nanotx.laws.positions import positions_survive_cast as positions_survive_cast
from nanotx.laws.positions import relative as relative
from nanotx.laws.positions import shift_invariant as shift_invariant
from nanotx.laws.randomness import accumulates_alike as accumulates_alike
from nanotx.laws.randomness import masks_distinct as masks_distinct
from nanotx.laws.runner import attempt as attempt
from nanotx.laws.runner import replay as replay
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
from nanotx.laws.time import depends_on_past as depends_on_past
from nanotx.laws.time import influence as influence
from nanotx.laws.time import window as window
from nanotx.laws.values import batch_independent as batch_independent
from nanotx.laws.values import position_wise as position_wise
from nanotx.laws.values import right_padding as right_padding
from nanotx.laws.values import time_prefix as time_prefix
