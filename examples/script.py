import harness

run = harness.evaluate(["fusion-concat", "pocket-clip"], task="retrieval", limit=100, latency="off")
print(run.cells()[["model", "language", "headline", "value", "low", "high"]])
print(run.path / "report.html")
