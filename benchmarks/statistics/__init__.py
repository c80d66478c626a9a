"""Metrics, summaries and comparisons of measured runs: pure mathematics on `benchmarks.load.result.Result`.

metrics.py    label, unit, formula, direction and effect threshold of each metric
summary.py    `summarise(result)`, `summarise_rounds(results)`: every metric of one configuration
rounds.py     `take_turns(arms)`: the order to measure in; `summarise_round(result)`: what a comparison needs of each
compare.py    `compare(a, b, metric)`, `decide(a, b, metrics, guardrails)`
"""
