"""Models behind the one interface of `harness.adapter`: a file for each family, and beside it what families share.

    transformers/   models that transformers loads: those asked through a chat template (`chat`), those given a bare
                    prompt (`prompted`), classifiers over a closed answer set (`labels`) and dual encoders (`dual`);
                    they share loading (`base`), greedy answers and the likelihoods of choices (`decoding`)
    open_clip.py    models that open_clip loads
    served/         models behind an endpoint that speaks OpenAI's protocol, and servers that are started for one
    dual.py         what the dual encoders of both libraries share: one part in, one vector out
    fusion/         the in-house model with its training
    pocket/         the bundled pocket models: how they are built and trained, and their weights, which the adapters of
                    their families load

A file of `conf/model/` names a class of these by its `_target_`. Such a module imports torch and the like inside its
methods, because the command line reads it before any model is loaded. A family knows no task and no other family.
"""
