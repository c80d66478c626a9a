"""The load generator: `python -m benchmarks.load` reads a plan from stdin and measures one engine and one model.

plan.py       what to do; its errors name the field; the protocol of the process
prepare.py    before the clock runs: the engine answers, the prompts are chosen
run.py        the sending: streams, users or a schedule
exchange.py   one request and its stamped answer; apis.py reads Ollama's and OpenAI's lines
harness.py    what measuring costs
rows.py       from exchanges to result.py, the columns of what was measured
"""
