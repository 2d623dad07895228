"""`tripline bench detect`: what the detectors promise, measured beside others (DETECTION 7).

`streams` makes data by name and seed, `fleet` runs our monitors over many replicates at once, `peers` wraps river,
`run_length` turns runs into false-alarm rates and delays; `matched`, `honesty` and `cost` make the tables and `report`
puts them together. `python -m loadtest.detect.match` finds the thresholds of `thresholds.json`, slowly.
"""
