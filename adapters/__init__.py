"""Models behind the one interface of `harness.adapter`, a file for each family.

`transformers_chat` holds models that are asked through a chat template, `transformers_prompted` those that take a bare
prompt, `transformers_labels` classifiers over a closed answer set, `transformers_dual` and `open_clip` dual encoders.
They share `transformers_base` (loading, tensors), `transformers_decoding` (greedy answers, likelihoods of choices) and
`dual` (one part in, one vector out). The in-house model is `fusion`; the bundled weights are in `pocket`.
"""
