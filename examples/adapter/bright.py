import numpy as np

from harness import Adapter, Answer
from harness.media import open_image


class Bright(Adapter):
    """Says yes to bright pictures."""

    def __init__(self, spec, threshold=128):
        super().__init__(spec)
        self.threshold = threshold

    def load(self, device, clock):
        pass  # a model with weights reads the folder `harness.checkpoint.weights_folder(self.spec.checkpoint)` here

    def prepare(self, requests, route):  # host work, done while the device is busy with the batch before
        return [np.asarray(open_image(request.media("image")[0])) for request in requests]

    def generate(self, inputs):  # device work; `embed` and `rank` are the other two things a model may be able to do
        return [Answer("yes" if pixels.mean() > self.threshold else "no") for pixels in inputs]
