"""The perceptron as a model of Triton's Python backend."""

import sys

# The backend's interpreter does not look into the environment that it was installed in.
sys.path[:0] = ["PACKAGES", "HERE"]

import numpy as np
import triton_python_backend_utils as triton
from perceptron import Perceptron


class TritonPythonModel:
    def initialize(self, args):
        self.model = Perceptron("WEIGHTS")

    def execute(self, requests):
        inputs = [triton.get_input_tensor_by_name(one, "x").as_numpy() for one in requests]
        y = self.model(np.concatenate(inputs) if len(inputs) > 1 else inputs[0])
        answers, at = [], 0
        for x in inputs:
            rows = np.ascontiguousarray(y[at : at + len(x)])
            at += len(x)
            answers.append(triton.InferenceResponse([triton.Tensor("y", rows)]))
        return answers
