"""Training: `loop` trains whatever is a `Trainable`, `recipes` carries out the files of `conf/train/`."""
