"""An independent test ground: small random models of every family, an oracle, and planted truth.

Nothing in this package imports ``selfrepair``: it shares no code with what it judges.
"""
