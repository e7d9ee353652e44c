"""The table of units: exact factors to the base unit of each dimension.

Sources: SI Brochure, 9th edition (2019), tables 4, 7 and 8; NIST Special Publication 811 (2008), appendix B; IEC 80000-13 for
kibi and its kin. US customary volumes unless "imperial" is said. A year is the Julian one of 365.25 days; months have no fixed
length and are not here.
"""

import functools
from dataclasses import dataclass
from fractions import Fraction

from router.tools._numbers import PI


@dataclass(frozen=True, slots=True)
class Unit:
    """base = (value + offset) * factor, or factor / value where inverse; rough: the factor is a rounding of an irrational one."""

    dimension: str
    symbol: str
    name: str
    factor: Fraction
    offset: Fraction = Fraction(0)
    inverse: bool = False
    rough: bool = False

    def to_base(self, value: Fraction) -> Fraction:
        """In the base unit; ZeroDivisionError for 0 of an inverse unit."""
        return self.factor / value if self.inverse else (value + self.offset) * self.factor

    def from_base(self, value: Fraction) -> Fraction:
        """The inverse of to_base."""
        return self.factor / value if self.inverse else value / self.factor - self.offset


# dimension | symbols, the first is shown | names, the first is shown | factor [offset, "inverse" or "rough"]
_TABLE = """
length | m | metre, meter | 1
length | km | kilometre, kilometer | 1000
length | dm | decimetre, decimeter | 1/10
length | cm | centimetre, centimeter | 1/100
length | mm | millimetre, millimeter | 1/1000
length | µm, um | micrometre, micrometer, micron | 1/1000000
length | nm | nanometre, nanometer | 1/1000000000
length | in, " | inch, inches | 0.0254
length | ft, ' | foot, feet | 0.3048
length | yd | yard | 0.9144
length | mi | mile | 1609.344
length | nmi | nautical mile | 1852
length | au | astronomical unit | 149597870700
length | ly | light-year, light year | 9460730472580800
mass | kg | kilogram, kilogramme, kilo | 1
mass | g | gram, gramme | 1/1000
mass | mg | milligram, milligramme | 1/1000000
mass | µg, ug, mcg | microgram, microgramme | 1/1000000000
mass | t | tonne, metric ton | 1000
mass | lb, lbs | pound | 0.45359237
mass | oz | ounce | 0.028349523125
mass | st | stone | 6.35029318
mass | ct | carat | 0.0002
mass | short ton | short ton, US ton | 907.18474
mass | long ton | long ton, imperial ton | 1016.0469088
temperature | K | kelvin | 1
temperature | °C, C, degC | degree Celsius, Celsius, centigrade, degrees Celsius | 1 273.15
temperature | °F, F, degF | degree Fahrenheit, Fahrenheit, degrees Fahrenheit | 5/9 459.67
temperature | °R, degR | degree Rankine, Rankine | 5/9
volume | m³, m3, m^3 | cubic metre, cubic meter | 1
volume | L, l | litre, liter | 1/1000
volume | dL, dl | decilitre, deciliter | 1/10000
volume | cL, cl | centilitre, centiliter | 1/100000
volume | mL, ml | millilitre, milliliter | 1/1000000
volume | cm³, cm3, cm^3, cc | cubic centimetre, cubic centimeter | 1/1000000
volume | gal, US gal | US gallon, gallon | 0.003785411784
volume | imp gal, UK gal | imperial gallon, UK gallon | 0.00454609
volume | qt | US quart, quart | 0.000946352946
volume | pt | US pint, pint | 0.000473176473
volume | imp pt | imperial pint, UK pint | 0.00056826125
volume | cup | US cup, cup | 0.0002365882365
volume | fl oz, floz | US fluid ounce, fluid ounce | 0.0000295735295625
volume | imp fl oz | imperial fluid ounce, UK fluid ounce | 0.0000284130625
volume | tbsp | US tablespoon, tablespoon | 0.00001478676478125
volume | tsp | US teaspoon, teaspoon | 0.00000492892159375
volume | bbl | barrel of oil, oil barrel, barrel | 0.158987294928
volume | ft³, ft3, ft^3, cu ft | cubic foot, cubic feet | 0.028316846592
volume | in³, in3, in^3, cu in | cubic inch, cubic inches | 0.000016387064
volume | yd³, yd3, yd^3, cu yd | cubic yard | 0.764554857984
area | m², m2, m^2, sqm | square metre, square meter | 1
area | km², km2, km^2 | square kilometre, square kilometer | 1000000
area | cm², cm2, cm^2 | square centimetre, square centimeter | 1/10000
area | mm², mm2, mm^2 | square millimetre, square millimeter | 1/1000000
area | ha | hectare | 10000
area | are | are | 100
area | ac | acre | 4046.8564224
area | ft², ft2, ft^2, sq ft, sqft | square foot, square feet | 0.09290304
area | in², in2, in^2, sq in | square inch, square inches | 0.00064516
area | yd², yd2, yd^2, sq yd | square yard | 0.83612736
area | mi², mi2, mi^2, sq mi | square mile | 2589988.110336
speed | m/s, mps | metre per second, meter per second, metres per second, meters per second | 1
speed | km/h, kmh, kph, kmph | kilometre per hour, kilometer per hour, kilometres per hour, kilometers per hour | 5/18
speed | mph, mi/h | mile per hour, miles per hour | 0.44704
speed | kn, kt | knot | 463/900
speed | ft/s, fps | foot per second, feet per second | 0.3048
speed | c | speed of light | 299792458
time | s, sec | second | 1
time | ms | millisecond | 1/1000
time | µs, us | microsecond | 1/1000000
time | ns | nanosecond | 1/1000000000
time | min | minute | 60
time | h, hr, hrs | hour | 3600
time | d | day | 86400
time | wk | week | 604800
time | a, yr | Julian year, year | 31557600
data | bit, b | bit | 1/8
data | B | byte | 1
data | kbit, kb, Kb | kilobit | 125
data | Mbit, Mb | megabit | 125000
data | Gbit, Gb | gigabit | 125000000
data | Tbit, Tb | terabit | 125000000000
data | kB, KB | kilobyte | 1000
data | MB | megabyte | 1000000
data | GB | gigabyte | 1000000000
data | TB | terabyte | 1000000000000
data | PB | petabyte | 1000000000000000
data | KiB | kibibyte | 1024
data | MiB | mebibyte | 1048576
data | GiB | gibibyte | 1073741824
data | TiB | tebibyte | 1099511627776
data | PiB | pebibyte | 1125899906842624
data rate | bit/s, bps | bit per second, bits per second | 1/8
data rate | kbit/s, kbps | kilobit per second, kilobits per second | 125
data rate | Mbit/s, Mbps, Mb/s | megabit per second, megabits per second | 125000
data rate | Gbit/s, Gbps, Gb/s | gigabit per second, gigabits per second | 125000000
data rate | B/s | byte per second, bytes per second | 1
data rate | kB/s, KB/s | kilobyte per second, kilobytes per second | 1000
data rate | MB/s | megabyte per second, megabytes per second | 1000000
data rate | GB/s | gigabyte per second, gigabytes per second | 1000000000
data rate | MiB/s | mebibyte per second, mebibytes per second | 1048576
energy | J | joule | 1
energy | kJ | kilojoule | 1000
energy | MJ | megajoule | 1000000
energy | cal | calorie | 4.184
energy | kcal, Cal | kilocalorie | 4184
energy | Wh | watt-hour, watt hour | 3600
energy | kWh | kilowatt-hour, kilowatt hour | 3600000
energy | MWh | megawatt-hour, megawatt hour | 3600000000
energy | BTU, Btu | British thermal unit | 1055.05585262
energy | eV | electronvolt, electron volt | 1.602176634e-19
energy | ft lbf, ft·lbf | foot-pound, foot pound | 1.3558179483314004
power | W | watt | 1
power | mW | milliwatt | 1/1000
power | kW | kilowatt | 1000
power | MW | megawatt | 1000000
power | GW | gigawatt | 1000000000
power | hp | mechanical horsepower, horsepower | 745.69987158227022
power | PS | metric horsepower | 735.49875
pressure | Pa | pascal | 1
pressure | hPa | hectopascal | 100
pressure | kPa | kilopascal | 1000
pressure | MPa | megapascal | 1000000
pressure | bar | bar | 100000
pressure | mbar | millibar | 100
pressure | atm | atmosphere, standard atmosphere | 101325
pressure | psi | pound per square inch, pounds per square inch | 444822161526050/64516000000
pressure | mmHg | millimetre of mercury, millimeter of mercury | 133.322387415
pressure | Torr, torr | torr | 101325/760
pressure | inHg | inch of mercury | 3386.388640341
angle | °, deg | degree | 1
angle | rad | radian | rough
angle | gon, grad | gradian, gon | 9/10
angle | ′, arcmin | arcminute, minute of arc | 1/60
angle | ″, arcsec | arcsecond, second of arc | 1/3600
angle | turn, rev | turn, revolution | 360
fuel consumption | km/L, km/l, kmpl | kilometre per litre, kilometer per liter, kilometres per litre, kilometers per liter | 1
fuel consumption | L/100km, L/100 km, l/100km, l/100 km | litre per 100 kilometres, liters per 100 kilometers | 100 inverse
fuel consumption | mpg, US mpg | mile per US gallon, miles per gallon, miles per US gallon | 1609344000000/3785411784000
fuel consumption | imp mpg, UK mpg | mile per imperial gallon, miles per imperial gallon | 1.609344/4.54609
"""


@functools.cache
def by_symbol() -> dict[str, Unit]:
    """Every symbol, in its exact spelling."""
    return {symbol: unit for symbols, _, unit in _rows() for symbol in symbols}


@functools.cache
def by_name() -> dict[str, Unit]:
    """Every name in lower case, with its plain plural."""
    found = {}
    for _, names, unit in _rows():
        for name in names:
            found[name.lower()] = unit
            found.setdefault(f"{name.lower()}s", unit)
    return found


def _rows() -> list[tuple[list[str], list[str], Unit]]:
    rows = []
    for line in _TABLE.strip().splitlines():
        dimension, symbols_text, names_text, numbers = (cell.strip() for cell in line.split("|"))
        symbols = [symbol.strip() for symbol in symbols_text.split(",")]
        names = [name.strip() for name in names_text.split(",")]
        factor, _, rest = numbers.partition(" ")
        rough = factor == "rough"
        value = Fraction(180) / Fraction(PI) if rough else _fraction(factor)
        inverse = rest == "inverse"
        offset = Fraction(rest) if rest and not inverse else Fraction(0)
        rows.append((symbols, names, Unit(dimension, symbols[0], names[0], value, offset, inverse, rough)))
    return rows


def _fraction(text: str) -> Fraction:
    above, _, below = text.partition("/")
    return Fraction(above) / Fraction(below or "1")
