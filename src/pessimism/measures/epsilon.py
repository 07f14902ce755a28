"""The epsilon of the paper's Eq. 2, 7, 9 and 10: what is added to a divisor that may be 0."""

import math

EPS = math.ldexp(1.0, -23)
"""Machine epsilon of float32, 1.1920929e-07."""
