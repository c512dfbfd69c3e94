"""From records to conclusions: scores with intervals, tests between models, `summary.json`. No model and no torch."""
