"""Units as files write them, converted by pint."""

import re
from functools import cache
from typing import Any

_EXPONENT = re.compile(r"(?<=[A-Za-zµ])\s*(?:\^|\*\*)?\s*([+-]?\d+)")
"""`m s-1`, `m s^-1` and `kg m-3` of the CF conventions (UDUNITS), which pint reads as subtractions."""
_LIGHT = re.compile(r"(?<=[a-z])\s*/\s*c(\s*(\^|\*\*)?\s*2)?$", re.IGNORECASE)
"""`GeV/c` and `GeV/c^2`: momenta and masses where the speed of light is 1."""
_NONE = frozenset({"", "1", "none", "unitless", "dimensionless", "-"})


class UnitsError(ValueError):
    """Units that are not known, or of another quantity."""


@cache
def _registry() -> Any:
    import pint

    return pint.UnitRegistry()


@cache
def factor(found: str, wanted: str) -> float:
    """What values in one unit are multiplied by, so that they are in another.

    Args:
        found: as a file or a study writes it: ``km/s``, ``km s-1``, ``Meters``, ``FT/S``, ``MeV``, ``degrees``.
        wanted: a field's unit.

    Raises:
        UnitsError: no such unit, or one of another quantity.
    """
    import pint

    found, wanted = found.strip(" []"), wanted.strip()
    if found == wanted or {found.lower(), wanted.lower()} <= _NONE:
        return 1.0
    try:
        target = _registry().Unit("" if wanted.lower() in _NONE else wanted)
    except (pint.UndefinedUnitError, AttributeError):
        raise UnitsError(f"'{found}' is not {wanted}, and {wanted} is no unit that can be converted") from None
    if target.is_compatible_with("GeV"):
        found = _LIGHT.sub("", found)
    known = None
    for spelling in dict.fromkeys((found, found.lower())):
        for case_sensitive in (True, False):
            try:
                unit = _registry().parse_units(_EXPONENT.sub(r"**\1", spelling), case_sensitive=case_sensitive)
                known = known or unit
                return float(_registry().Quantity(1.0, unit).to(target).magnitude)
            except pint.DimensionalityError:
                continue
            except Exception:  # pint raises errors of Python's tokenizer, too
                continue
    if known is None:
        raise UnitsError(f"'{found}' is no known unit, wanted {wanted}")
    raise UnitsError(f"'{found}' is no unit of the same quantity as {wanted}")
