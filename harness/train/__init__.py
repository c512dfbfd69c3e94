"""Training: `recipes` carries out the files of `conf/train/`, and `loop` trains the Trainable that each of them names.

What the loop writes is made in `state` (moments to go on from) and `curves` (how losses and scores went).
"""
