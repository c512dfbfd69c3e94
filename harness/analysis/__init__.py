"""From records to conclusions: scores with intervals, tests between models, `summary.json`. This needs neither a model
nor torch."""
