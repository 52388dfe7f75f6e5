"""What a run imports, imported once for all children that are forked."""

import nanotx.loaded
import nanotx.resume
import nanotx.run
