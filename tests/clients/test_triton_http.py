"""`tritonclient.http` asks the server over REST."""

from unittest import IsolatedAsyncioTestCase

import ml_dtypes
import numpy as np
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

from backend import PATIENCE
from models import A, B, FP16, ROWS, Served


def tensor(name, array, datatype, binary=False):
    return triton.InferInput(name, array.shape, datatype).set_data_from_numpy(array, binary_data=binary)


def simple(a=A, b=B, binary=False):
    return [tensor("INPUT0", a, "INT32", binary), tensor("INPUT1", b, "INT32", binary)]


def asked(*names):
    return [triton.InferRequestedOutput(name, binary_data=False) for name in names]


BOTH = asked("OUTPUT0", "OUTPUT1")


class Http(Served, IsolatedAsyncioTestCase):
    def setUp(self):
        self.client = triton.InferenceServerClient(
            self.address, concurrency=4, network_timeout=PATIENCE, connection_timeout=PATIENCE
        )
        self.addCleanup(self.client.close)

    def assert_sum_and_difference(self, result, a=A, b=B):
        np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), a + b)
        np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), a - b)

    def test_the_server_and_its_models_describe_themselves(self):
        self.assertTrue(self.client.is_server_live())
        self.assertTrue(self.client.is_server_ready())
        self.assertTrue(self.client.is_model_ready("simple"))
        self.assertTrue(self.client.is_model_ready("simple", "1"))
        self.assertFalse(self.client.is_model_ready("simple", "2"))
        self.assertEqual(self.client.get_server_metadata()["name"], "aegis-backend")
        metadata = self.client.get_model_metadata("simple")
        self.assertEqual((metadata["name"], metadata["versions"]), ("simple", ["1"]))
        self.assertEqual(
            [(one["name"], one["datatype"], one["shape"]) for one in metadata["inputs"] + metadata["outputs"]],
            [(name, "INT32", [-1, 16]) for name in ("INPUT0", "INPUT1", "OUTPUT0", "OUTPUT1")],
        )

    def test_sum_and_difference_in_json(self):
        result = self.client.infer("simple", simple(), outputs=BOTH, request_id="seven")
        self.assert_sum_and_difference(result)
        self.assertEqual(result.get_output("OUTPUT0")["datatype"], "INT32")
        answer = result.get_response()
        self.assertEqual((answer["model_name"], answer["model_version"], answer["id"]), ("simple", "1", "seven"))

    def test_sum_and_difference_in_binary_which_is_what_the_client_does_by_default(self):
        result = self.client.infer("simple", simple(binary=True))
        self.assert_sum_and_difference(result)
        self.assertEqual(result.get_output("OUTPUT0")["parameters"], {"binary_data_size": A.nbytes})

    def test_one_tensor_in_binary_beside_one_in_json_each_way(self):
        outputs = [triton.InferRequestedOutput("OUTPUT0", binary_data=True), *asked("OUTPUT1")]
        inputs = [simple()[0], simple(binary=True)[1]]
        result = self.client.infer("simple", inputs, outputs=outputs)
        self.assert_sum_and_difference(result)
        self.assertEqual(["data" in result.get_output(one) for one in ("OUTPUT0", "OUTPUT1")], [False, True])

    def test_bodies_are_compressed_each_way(self):
        # Enough rows that an answer is worth compressing.
        a, b = np.tile(A, (200, 1)), np.tile(B, (200, 1))
        for coding in ("gzip", "deflate"):
            for binary in (False, True):
                with self.subTest(coding=coding, binary=binary):
                    result = self.client.infer(
                        "simple",
                        simple(a, b, binary),
                        outputs=None if binary else BOTH,
                        request_compression_algorithm=coding,
                        response_compression_algorithm=coding,
                    )
                    self.assert_sum_and_difference(result, a, b)

    def test_only_the_outputs_that_are_asked_for_are_answered(self):
        result = self.client.infer("simple", simple(), model_version="1", outputs=asked("OUTPUT1"))
        self.assertEqual([output["name"] for output in result.get_response()["outputs"]], ["OUTPUT1"])
        np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), A - B)

    def test_every_datatype_that_json_holds_comes_back_as_it_went(self):
        inputs = [tensor(f"in_{datatype}", row, datatype) for datatype, row in ROWS.items()]
        outputs = asked(*(f"out_{datatype}" for datatype in ROWS))
        result = self.client.infer("types", inputs, outputs=outputs)
        for datatype, row in ROWS.items():
            got = result.as_numpy(f"out_{datatype}")
            # The client reads text as it stands in JSON.
            expected = [[text(one) for one in row[0]]] if datatype == "BYTES" else row
            np.testing.assert_array_equal(got, expected, datatype)
        result = self.client.infer("fp16", [tensor("in_FP16", FP16, "FP16")], outputs=asked("out_FP16"))
        np.testing.assert_array_equal(result.as_numpy("out_FP16"), FP16)

    def test_every_datatype_comes_back_in_binary_as_it_went(self):
        inputs = [tensor(f"in_{datatype}", row, datatype, binary=True) for datatype, row in ROWS.items()]
        result = self.client.infer("types", inputs)
        for datatype, row in ROWS.items():
            got = result.as_numpy(f"out_{datatype}")
            # The client reads text as bytes then.
            expected = [[binary(one) for one in row[0]]] if datatype == "BYTES" else row
            np.testing.assert_array_equal(got, expected, datatype)
        bf16 = np.array([[-3e38, 0.1, 1e-38]], ml_dtypes.bfloat16)
        for datatype, row in {"FP16": FP16, "BF16": bf16}.items():
            result = self.client.infer(datatype.lower(), [tensor(f"in_{datatype}", row, datatype, binary=True)])
            np.testing.assert_array_equal(result.as_numpy(f"out_{datatype}"), row)

    def test_many_requests_in_flight_get_each_its_own_answer(self):
        arrays = [np.full((1, 16), number, np.int32) for number in range(32)]
        pending = [self.client.async_infer("simple", simple(a, B[:1]), outputs=BOTH) for a in arrays]
        for a, one in zip(arrays, pending):
            self.assert_sum_and_difference(one.get_result(timeout=PATIENCE), a, B[:1])

    async def test_sum_and_difference_with_asyncio(self):
        async with triton_aio.InferenceServerClient(self.address) as client:
            self.assertTrue(await client.is_model_ready("simple"))
            self.assert_sum_and_difference(await client.infer("simple", simple(), outputs=BOTH))
            self.assert_sum_and_difference(await client.infer("simple", simple(binary=True)))

    def test_a_refusal_tells_its_status_and_what_was_wrong(self):
        wide = np.zeros((2, 17), np.int32)
        cases = [
            ("400", "INPUT1.*shape", "simple", [simple()[0], tensor("INPUT1", wide, "INT32")]),
            ("400", "INPUT1", "simple", simple()[:1]),
            ("404", "nothing", "nothing", simple()),
        ]
        for status, words, model, inputs in cases:
            with self.subTest(words=words), self.assertRaisesRegex(InferenceServerException, words) as raised:
                self.client.infer(model, inputs, outputs=asked("OUTPUT0"))
            self.assertEqual(raised.exception.status(), status)

    def test_a_timeout_that_cannot_be_kept_is_refused(self):
        slow = [tensor("in_FP32", ROWS["FP32"], "FP32")]
        answered = self.client.infer("slow", slow, outputs=asked("out_FP32"))
        np.testing.assert_array_equal(answered.as_numpy("out_FP32"), ROWS["FP32"])
        with self.assertRaises(InferenceServerException) as raised:
            self.client.infer("slow", slow, outputs=asked("out_FP32"), timeout=50_000)
        self.assertEqual(raised.exception.status(), "504")

    def test_models_are_loaded_and_unloaded(self):
        def state():
            return {line["name"]: line["state"] for line in self.client.get_model_repository_index()}["spare"]

        self.assertEqual(state(), "UNAVAILABLE")
        self.client.load_model("spare")
        self.assertEqual(state(), "READY")
        spare = [tensor("in_FP32", ROWS["FP32"], "FP32")]
        answered = self.client.infer("spare", spare, outputs=asked("out_FP32"))
        np.testing.assert_array_equal(answered.as_numpy("out_FP32"), ROWS["FP32"])
        self.client.unload_model("spare")
        self.assertFalse(self.client.is_model_ready("spare"))
        with self.assertRaisesRegex(InferenceServerException, "parameters.config: not supported"):
            self.client.load_model("simple", config="{}")


def text(one):
    return one.decode() if isinstance(one, bytes) else one


def binary(one):
    return one.encode() if isinstance(one, str) else one
