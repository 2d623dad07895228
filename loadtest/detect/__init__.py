"""`tripline bench detect`: what the detectors promise, measured beside others (DETECTION 7).

`streams`, `scores` and `labels` make data by name and seed; `fleet` runs our monitors over many replicates at once,
`charts` runs charts of one limit, `scoped` whole models; `peers` asks the competitors, which run in an environment of
their own (`loadtest/peers`); `run_length` turns runs into false-alarm rates and delays. `matched`, `honesty`, `labels`,
`stress`, `coverage`, `public` and `cost` make the tables, and `report` puts them together. `python -m
loadtest.detect.match` settles the knobs of `thresholds.json`, slowly.
"""
