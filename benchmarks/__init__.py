"""How fast the engine is, measured against PostgreSQL's own tools and against other programs: ``make bench``.

Nothing of this is part of the package, and pytest collects none of it. A scenario (`scenarios.py`) is data, a change of
it, a baseline and competitors. `runs.py` runs it, all competitors in turns; `report.py`, `plots.py` and `document.py`
show the results.
"""
