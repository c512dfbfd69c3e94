"""Models behind the one interface of `harness.adapter`, a file for each family.

`transformers.chat` holds models that are asked through a chat template, `transformers.prompted` those that take a bare
prompt, `transformers.labels` classifiers over a closed answer set, `transformers.dual` and `open_clip` dual encoders.
They share `transformers.base` (loading, tensors), `transformers.decoding` (greedy answers, likelihoods of choices) and
`dual` (one part in, one vector out). The in-house model is `fusion`; the bundled weights are in `pocket`.
"""
