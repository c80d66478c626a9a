"""The load generator: `python -m benchmarks.load` reads a plan from stdin and measures one engine and one model.

plan.py    what to do; its errors name the field
result.py  what was measured, one column per fact
"""
