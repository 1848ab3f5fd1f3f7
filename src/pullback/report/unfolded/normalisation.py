"""Contents of bins as numbers of events, cross-sections or shares.

Without a cross-section contents are the sums of weights: numbers of events. A cross-section sigma (pb) is that of all
rows, inside the bins or not: contents become sigma c_i / sum c, whatever the scale of the weights. A luminosity L
(1/fb) turns numbers of events and cross-sections into each other. Without either a density is that of shares.
"""

from typing import NamedTuple

import numpy as np

PB_PER_FB = 1000.0
"""1/fb is 1000/pb."""


class Quantity(NamedTuple):
    """A multiple of contents, or of their shares of all rows.

    Attributes:
        name, unit: of the quantity.
        factor: what contents or shares are multiplied by.
        of_shares: whether it is of shares.
    """

    name: str
    unit: str
    factor: float
    of_shares: bool

    def value(self, entries: np.ndarray) -> np.ndarray:
        """The quantity (..., bin) from a feature's entries (..., bin + 1), the last that of all rows."""
        return self.factor * entries[..., :-1] / (entries[..., -1:] if self.of_shares else 1.0)

    def slope(self, entries: np.ndarray) -> np.ndarray:
        """Its derivative by the entries (bin, bin + 1)."""
        slope = self.factor * np.eye(len(entries) - 1, len(entries))
        if self.of_shares:
            slope[:, -1] = -self.value(entries)
            slope /= entries[-1]
        return slope


class Normalisation(NamedTuple):
    """What absolute numbers follow from.

    Attributes:
        luminosity: of the data, 1/fb.
        cross_section: of all rows, pb.
    """

    luminosity: float | None = None
    cross_section: float | None = None

    @property
    def metadata(self) -> dict[str, float]:
        """What is known, with its unit."""
        known = {"luminosity_fb": self.luminosity, "cross_section_pb": self.cross_section}
        return {name: value for name, value in known.items() if value is not None}

    @property
    def contents(self) -> Quantity:
        """Contents of bins."""
        if self.cross_section is None:
            return Quantity("Number of events", "", 1.0, False)
        if self.luminosity is None:
            return Quantity("Cross-section", "pb", self.cross_section, True)
        return Quantity("Number of events", "", self.cross_section * self.luminosity * PB_PER_FB, True)

    @property
    def differential(self) -> Quantity:
        """What is divided by the width of a bin."""
        if self.cross_section is not None:
            return Quantity("dsigma/d", "pb", self.cross_section, True)
        if self.luminosity is not None:
            return Quantity("dsigma/d", "pb", 1.0 / (PB_PER_FB * self.luminosity), False)
        return Quantity("1/N dN/d", "", 1.0, True)


WEIGHTS = Normalisation()
"""Contents are sums of weights."""
