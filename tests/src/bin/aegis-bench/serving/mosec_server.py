"""The perceptron behind mosec: raw FP32 in and out, or JSON as the Open Inference Protocol has it."""

import json
import os
import sys

import numpy as np
from mosec import Server, Worker

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from perceptron import Perceptron


class Raw(Worker):
    def __init__(self):
        super().__init__()
        self.model = Perceptron(os.environ["WEIGHTS"])

    def deserialize(self, data):
        return np.frombuffer(data, dtype="<f4")

    def serialize(self, data):
        return data.tobytes()

    def forward(self, data):
        return list(self.model(np.stack(data)))


class Json(Raw):
    def deserialize(self, data):
        return np.asarray(json.loads(data)["inputs"][0]["data"], dtype=np.float32)

    def serialize(self, data):
        output = {"name": "y", "datatype": "FP32", "shape": [1, 10], "data": data.tolist()}
        return json.dumps({"outputs": [output]}).encode()


if __name__ == "__main__":
    server = Server()
    worker = Json if os.environ["FORM"] == "json" else Raw
    server.append_worker(worker, num=1, max_batch_size=32, max_wait_time=1)
    server.run()
