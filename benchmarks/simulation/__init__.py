"""Made-up corpora with known answers, measured by the package's own code: how often do its intervals hold the truth?"""
