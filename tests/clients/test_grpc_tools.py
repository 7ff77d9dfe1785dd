"""gRPC's own tools: what they learn by reflection is what Triton's client was generated from, and they
watch the server's health."""

from unittest import TestCase

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tritonclient.grpc import service_pb2

from backend import PATIENCE
from models import Served

SERVICE = "inference.GRPCInferenceService"
# What we answer; Triton has more.
METHODS = {
    *("ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata", "ModelInfer"),
    *("ModelStreamInfer", "RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload"),
}


def shape(message, seen=None):
    """The fields of a message, and of those in it, by their numbers."""
    seen = seen or {message.name}
    fields = {}
    for field in message.fields:
        inner = field.message_type
        if inner is not None and inner.name not in seen:
            inner = shape(inner, seen | {inner.name})
        else:
            inner = inner.name if inner is not None else None
        fields[field.number] = (field.name, field.type, field.is_repeated, inner)
    return fields


class Tools(Served, TestCase):
    def setUp(self):
        self.channel = grpc.insecure_channel(self.address)
        self.addCleanup(self.channel.close)

    def test_reflection_tells_what_clients_were_generated_from(self):
        database = ProtoReflectionDescriptorDatabase(self.channel)
        self.assertIn(SERVICE, database.get_services())
        self.assertIn("grpc.health.v1.Health", database.get_services())
        service = DescriptorPool(database).FindServiceByName(SERVICE)
        theirs = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
        self.assertEqual({method.name for method in service.methods}, METHODS)
        for method in service.methods:
            other = theirs.methods_by_name[method.name]
            self.assertEqual(method.client_streaming, other.client_streaming, method.name)
            self.assertEqual(method.server_streaming, other.server_streaming, method.name)
            for ours, also in [(method.input_type, other.input_type), (method.output_type, other.output_type)]:
                self.assertEqual(ours.full_name, also.full_name)
                self.assertEqual(shape(ours), shape(also), ours.full_name)

    def test_what_is_not_there_is_not_found(self):
        database = ProtoReflectionDescriptorDatabase(self.channel)
        for ask in (database.FindFileContainingSymbol, database.FindFileByName):
            with self.assertRaises(KeyError):
                ask("inference.Nothing")

    def test_health_is_watched(self):
        health = health_pb2_grpc.HealthStub(self.channel)
        for service in ("", SERVICE):
            watch = health.Watch(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE)
            self.assertEqual(next(watch).status, health_pb2.HealthCheckResponse.SERVING)
            self.assertTrue(watch.is_active(), "it stays open for what comes")
            watch.cancel()
        watch = health.Watch(health_pb2.HealthCheckRequest(service="other"), timeout=PATIENCE)
        self.assertEqual(next(watch).status, health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
        watch.cancel()
