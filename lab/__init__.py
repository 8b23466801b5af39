"""Experiments behind docs/attack-report.md: attacks against the routing, lookup and trust code of pqdht.

Not part of the package: `python -m lab.report` from a checkout (`make attack-report`).
"""
