from __future__ import annotations

import os

from hypothesis import settings

# No deadline: a busy machine is no failure. The same examples every time, unless others are looked for on purpose
# (HYPOTHESIS_PROFILE=explore): what passed on one machine passes on the next.
settings.register_profile("explore", deadline=None)
settings.register_profile("fixed", deadline=None, derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))
