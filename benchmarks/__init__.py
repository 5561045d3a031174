"""How fast the engine is, measured against PostgreSQL's own tools and against other programs: ``make bench``.

Nothing of this is part of the package, and pytest collects none of it. A scenario (`scenarios.py`) is data, a change of
it, a floor and contenders; `race.py` runs it, all contenders in turns, and `report.py`, `plots.py` and `document.py`
show what came of it.
"""
