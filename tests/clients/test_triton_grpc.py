"""`tritonclient.grpc` asks the server over gRPC, on the port of REST."""

import queue
from unittest import IsolatedAsyncioTestCase

import ml_dtypes
import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

from backend import PATIENCE
from models import A, B, FP16, ROWS, Served


def tensor(name, array, datatype):
    return triton.InferInput(name, array.shape, datatype).set_data_from_numpy(array)


def simple(a=A, b=B):
    return [tensor("INPUT0", a, "INT32"), tensor("INPUT1", b, "INT32")]


class Answers:
    """What a client calls back with, one after the other."""

    def __init__(self):
        self._queue = queue.Queue()

    def __call__(self, result, error):
        self._queue.put((result, error))

    def next(self):
        return self._queue.get(timeout=PATIENCE)


class Grpc(Served, IsolatedAsyncioTestCase):
    def setUp(self):
        self.client = triton.InferenceServerClient(self.address)
        self.addCleanup(self.client.close)

    def infer(self, model, inputs, **options):
        return self.client.infer(model, inputs, client_timeout=PATIENCE, **options)

    def assert_sum_and_difference(self, result, a=A, b=B):
        np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), a + b)
        np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), a - b)

    def test_the_server_and_its_models_describe_themselves(self):
        self.assertTrue(self.client.is_server_live())
        self.assertTrue(self.client.is_server_ready())
        self.assertTrue(self.client.is_model_ready("simple"))
        self.assertTrue(self.client.is_model_ready("simple", "1"))
        self.assertEqual(self.client.get_server_metadata().name, "aegis-backend")
        metadata = self.client.get_model_metadata("simple")
        self.assertEqual((metadata.name, metadata.versions), ("simple", ["1"]))
        self.assertEqual(
            [(one.name, one.datatype, list(one.shape)) for one in [*metadata.inputs, *metadata.outputs]],
            [(name, "INT32", [-1, 16]) for name in ("INPUT0", "INPUT1", "OUTPUT0", "OUTPUT1")],
        )

    def test_sum_and_difference(self):
        result = self.infer("simple", simple(), request_id="seven")
        self.assert_sum_and_difference(result)
        answer = result.get_response()
        self.assertEqual((answer.model_name, answer.model_version, answer.id), ("simple", "1", "seven"))

    def test_sum_and_difference_compressed(self):
        self.assert_sum_and_difference(self.infer("simple", simple(), compression_algorithm="gzip"))

    def test_only_the_outputs_that_are_asked_for_are_answered(self):
        outputs = [triton.InferRequestedOutput("OUTPUT1")]
        result = self.infer("simple", simple(), model_version="1", outputs=outputs)
        self.assertEqual([output.name for output in result.get_response().outputs], ["OUTPUT1"])
        np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), A - B)

    def test_every_datatype_comes_back_as_it_went(self):
        inputs = [tensor(f"in_{datatype}", row, datatype) for datatype, row in ROWS.items()]
        result = self.infer("types", inputs)
        for datatype, row in ROWS.items():
            got = result.as_numpy(f"out_{datatype}")
            # The client reads text as bytes.
            expected = [[binary(one) for one in row[0]]] if datatype == "BYTES" else row
            np.testing.assert_array_equal(got, expected, datatype)
        bf16 = np.array([[-3e38, 0.1, 1e-38]], ml_dtypes.bfloat16)
        for datatype, row in {"FP16": FP16, "BF16": bf16}.items():
            result = self.infer(datatype.lower(), [tensor(f"in_{datatype}", row, datatype)])
            np.testing.assert_array_equal(result.as_numpy(f"out_{datatype}"), row)

    def test_bytes_need_not_be_text(self):
        outputs = [triton.InferRequestedOutput("out_BYTES")]
        inputs = {f"in_{datatype}": tensor(f"in_{datatype}", row, datatype) for datatype, row in ROWS.items()}
        row = np.array([[b"\xff\xfe", b"\x00", bytes(100_000)]], np.object_)
        inputs["in_BYTES"] = tensor("in_BYTES", row, "BYTES")
        result = self.infer("types", list(inputs.values()), outputs=outputs)
        np.testing.assert_array_equal(result.as_numpy("out_BYTES"), row)

    def test_many_requests_in_flight_get_each_its_own_answer(self):
        answers = {number: Answers() for number in range(32)}
        row = {number: np.full((1, 16), number, np.int32) for number in answers}
        for number, callback in answers.items():
            self.client.async_infer("simple", simple(row[number], B[:1]), callback, client_timeout=PATIENCE)
        for number, callback in answers.items():
            result, error = callback.next()
            self.assertIsNone(error)
            self.assert_sum_and_difference(result, row[number], B[:1])

    def test_a_stream_answers_in_order_and_goes_on_after_an_error(self):
        answers = Answers()
        self.client.start_stream(answers, stream_timeout=PATIENCE)
        self.client.async_stream_infer("simple", simple(), request_id="first")
        self.client.async_stream_infer("nothing", simple())
        self.client.async_stream_infer("simple", simple(B, A), request_id="third")
        result, error = answers.next()
        self.assertIsNone(error)
        self.assertEqual(result.get_response().id, "first")
        self.assert_sum_and_difference(result)
        result, error = answers.next()
        self.assertIsNone(result)
        self.assertIn("nothing", error.message())
        result, error = answers.next()
        self.assertIsNone(error)
        self.assertEqual(result.get_response().id, "third")
        self.assert_sum_and_difference(result, B, A)
        self.client.stop_stream()

    async def test_sum_and_difference_with_asyncio(self):
        async def questions():
            for number in range(3):
                yield {"model_name": "simple", "inputs": simple(A + number), "request_id": str(number)}

        async with triton_aio.InferenceServerClient(self.address) as client:
            self.assertTrue(await client.is_model_ready("simple"))
            self.assert_sum_and_difference(await client.infer("simple", simple(), client_timeout=PATIENCE))
            number = 0
            async for result, error in client.stream_infer(questions(), stream_timeout=PATIENCE):
                self.assertIsNone(error)
                self.assertEqual(result.get_response().id, str(number))
                self.assert_sum_and_difference(result, A + number)
                number += 1
            self.assertEqual(number, 3)

    def test_a_refusal_tells_its_code_and_what_was_wrong(self):
        wide = np.zeros((2, 17), np.int32)
        cases = [
            ("INVALID_ARGUMENT", "INPUT1.*shape", "simple", [simple()[0], tensor("INPUT1", wide, "INT32")]),
            ("INVALID_ARGUMENT", "INPUT1", "simple", simple()[:1]),
            ("NOT_FOUND", "nothing", "nothing", simple()),
        ]
        for code, words, model, inputs in cases:
            with self.subTest(words=words), self.assertRaisesRegex(InferenceServerException, words) as raised:
                self.infer(model, inputs)
            self.assertEqual(raised.exception.status(), f"StatusCode.{code}")

    def test_a_timeout_that_cannot_be_kept_is_refused(self):
        slow = [tensor("in_FP32", ROWS["FP32"], "FP32")]
        np.testing.assert_array_equal(self.infer("slow", slow).as_numpy("out_FP32"), ROWS["FP32"])
        with self.assertRaises(InferenceServerException) as raised:
            self.infer("slow", slow, timeout=50_000)
        self.assertEqual(raised.exception.status(), "StatusCode.DEADLINE_EXCEEDED")

    def test_models_are_loaded_and_unloaded(self):
        def state():
            return {line.name: line.state for line in self.client.get_model_repository_index().models}["spare"]

        self.assertEqual(state(), "UNAVAILABLE")
        self.client.load_model("spare")
        self.assertEqual(state(), "READY")
        result = self.infer("spare", [tensor("in_FP32", ROWS["FP32"], "FP32")])
        np.testing.assert_array_equal(result.as_numpy("out_FP32"), ROWS["FP32"])
        self.client.unload_model("spare")
        self.assertEqual(state(), "UNAVAILABLE")
        with self.assertRaisesRegex(InferenceServerException, "parameters.config: not supported") as raised:
            self.client.load_model("simple", config="{}")
        self.assertEqual(raised.exception.status(), "StatusCode.INVALID_ARGUMENT")

    def test_what_other_servers_offer_beside_the_protocol_is_refused_by_name(self):
        with self.assertRaisesRegex(InferenceServerException, "ModelConfig") as raised:
            self.client.get_model_config("simple")
        self.assertEqual(raised.exception.status(), "StatusCode.UNIMPLEMENTED")


def binary(one):
    return one.encode() if isinstance(one, str) else one
