"""The 52 variables of the Tennessee Eastman process (Downs and Vogel, 1993, tables 3 to 5)."""

MEASUREMENTS = (
    ("A feed", "kscmh"),
    ("D feed", "kg/h"),
    ("E feed", "kg/h"),
    ("A and C feed", "kscmh"),
    ("recycle flow", "kscmh"),
    ("reactor feed", "kscmh"),
    ("reactor pressure", "kPa"),
    ("reactor level", "%"),
    ("reactor temperature", "°C"),
    ("purge rate", "kscmh"),
    ("separator temperature", "°C"),
    ("separator level", "%"),
    ("separator pressure", "kPa"),
    ("separator underflow", "m3/h"),
    ("stripper level", "%"),
    ("stripper pressure", "kPa"),
    ("stripper underflow", "m3/h"),
    ("stripper temperature", "°C"),
    ("stripper steam flow", "kg/h"),
    ("compressor work", "kW"),
    ("reactor cooling water outlet temperature", "°C"),
    ("separator cooling water outlet temperature", "°C"),
    *((f"reactor feed, component {name}", "mol%") for name in "ABCDEF"),
    *((f"purge gas, component {name}", "mol%") for name in "ABCDEFGH"),
    *((f"product, component {name}", "mol%") for name in "DEFGH"),
)
"""(what is measured, unit) of XMEAS(1)..XMEAS(41)."""

VALVES = (
    "D feed flow",
    "E feed flow",
    "A feed flow",
    "A and C feed flow",
    "compressor recycle valve",
    "purge valve",
    "separator liquid flow",
    "stripper product flow",
    "stripper steam valve",
    "reactor cooling water flow",
    "condenser cooling water flow",
)
"""What XMV(1)..XMV(11) control, all in %."""

VARIABLES = (
    *((f"XMEAS({n})", what, unit) for n, (what, unit) in enumerate(MEASUREMENTS, start=1)),
    *((f"XMV({n})", what, "%") for n, what in enumerate(VALVES, start=1)),
)
"""(name, what it is, unit) in the order of the data."""

CLASSES = ("normal", *(f"IDV({n})" for n in range(1, 22)))
"""Class names in the order of their numbers."""
