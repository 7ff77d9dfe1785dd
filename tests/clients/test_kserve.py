"""The inference clients of KServe's SDK ask the server, over REST and gRPC.

In a process of its own: it and tritonclient.grpc both register the protocol's messages, and these can be registered once.
"""

from unittest import IsolatedAsyncioTestCase

import grpc
import httpx
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

from backend import PATIENCE
from models import A, B, FP16, ROWS, Served


def simple(a=A, b=B):
    arrays = {"INPUT0": a, "INPUT1": b}
    inputs = [InferInput(name, list(array.shape), "INT32", array) for name, array in arrays.items()]
    return InferRequest("simple", inputs, request_id="seven")


def types():
    """A row of each datatype as a list, which gRPC carries in typed contents."""

    def tensor(datatype, row):
        values = [one.decode() if isinstance(one, bytes) else one for one in row[0].tolist()]
        return InferInput(f"in_{datatype}", list(row.shape), datatype, values)

    return InferRequest("types", [tensor(datatype, row) for datatype, row in ROWS.items()])


class KServe(Served, IsolatedAsyncioTestCase):
    def assert_sum_and_difference(self, answer):
        self.assertEqual((answer.model_name, answer.id), ("simple", "seven"))
        np.testing.assert_array_equal(answer.get_output_by_name("OUTPUT0").as_numpy(), A + B)
        np.testing.assert_array_equal(answer.get_output_by_name("OUTPUT1").as_numpy(), A - B)

    def assert_types(self, answer):
        for datatype, row in ROWS.items():
            got = answer.get_output_by_name(f"out_{datatype}").as_numpy()
            # As text over REST, as bytes over gRPC.
            if datatype == "BYTES":
                got, row = [binary(one) for one in got[0]], [binary(one) for one in row[0]]
            np.testing.assert_array_equal(got, row, datatype)

    def rest(self):
        client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=PATIENCE, retries=0))
        self.addAsyncCleanup(client.close)
        return client, f"http://{self.address}"

    def grpc(self):
        client = InferenceGRPCClient(self.address, timeout=PATIENCE, retries=0)
        self.addAsyncCleanup(client.close)
        return client

    async def test_the_server_and_its_models_are_ready_over_rest(self):
        client, url = self.rest()
        self.assertIs(await client.is_server_live(url), True)
        self.assertIs(await client.is_server_ready(url), True)
        self.assertIs(await client.is_model_ready(url, "simple"), True)
        self.assertIs(await client.is_model_ready(url, "nothing"), False)

    async def test_the_server_and_its_models_are_ready_over_grpc(self):
        client = self.grpc()
        self.assertIs(await client.is_server_live(), True)
        self.assertIs(await client.is_server_ready(), True)
        self.assertIs(await client.is_model_ready("simple"), True)

    async def test_sum_and_difference_over_rest(self):
        client, url = self.rest()
        self.assert_sum_and_difference(await client.infer(url, simple(), model_name="simple"))

    async def test_sum_and_difference_in_binary_over_rest(self):
        client, url = self.rest()
        question = simple()
        for one in question.inputs:
            one.set_data_from_numpy(one.data)
        question.parameters = {"binary_data_output": True}
        got = {}
        answer = await client.infer(url, question, model_name="simple", response_headers=got)
        self.assert_sum_and_difference(answer)
        self.assertEqual(got["content-type"], "application/octet-stream")

    async def test_sum_and_difference_over_grpc(self):
        self.assert_sum_and_difference(await self.grpc().infer(simple()))

    async def test_every_datatype_comes_back_as_it_went_over_rest(self):
        client, url = self.rest()
        self.assert_types(await client.infer(url, types(), model_name="types"))

    async def test_every_datatype_comes_back_as_it_went_over_grpc(self):
        self.assert_types(await self.grpc().infer(types()))

    async def test_raw_contents_come_back_as_they_went_over_grpc(self):
        half = InferInput("in_FP16", list(FP16.shape), "FP16")
        half.set_data_from_numpy(FP16)
        answer = await self.grpc().infer(InferRequest("fp16", [half]))
        np.testing.assert_array_equal(answer.get_output_by_name("out_FP16").as_numpy(), FP16)

    async def test_a_refusal_tells_its_code_and_what_was_wrong(self):
        wide = np.zeros((2, 17), np.int32)
        client, url = self.rest()
        with self.assertRaisesRegex(httpx.HTTPStatusError, "INPUT1.*shape.*400"):
            await client.infer(url, simple(b=wide), model_name="simple")
        with self.assertRaises(grpc.RpcError) as raised:
            await self.grpc().infer(simple(b=wide))
        self.assertEqual(raised.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)
        self.assertRegex(raised.exception.details(), "INPUT1.*shape")


def binary(one):
    return one.encode() if isinstance(one, str) else one
