"""`model-signing`, the reference implementation of OpenSSF Model Signing, and ours trust each other's signatures."""

import os
import shutil
import tempfile
from pathlib import Path
from unittest import TestCase

import model_signing
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from backend import ECHO, get, run, serving, until

CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
FORMATS = (serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL)


class Folder:
    """A model's folder, with a key pair beside it."""

    def __init__(self, curve=ec.SECP256R1, form=serialization.PrivateFormat.PKCS8):
        self.root = Path(tempfile.mkdtemp())
        self.model = self.root / "repository" / "echo" / "1"
        (self.model / "labels").mkdir(parents=True)
        (self.model / "model.pt").write_bytes(os.urandom(3_000_000))
        (self.model / "model.toml").write_text(ECHO)
        (self.model / "labels" / "en.txt").write_text("zero\none\n")
        # Sorts between the folder `labels` and what is in it, unless paths are compared part by part.
        (self.model / "labels.txt").write_text("none\n")
        (self.model / ".gitattributes").write_text("*.pt filter=lfs\n")
        self.signature = self.model / "model.sig"
        self.private, self.public = self.keys("team", curve, form)

    def keys(self, name, curve=ec.SECP256R1, form=serialization.PrivateFormat.PKCS8):
        key = ec.generate_private_key(curve())
        private, public = self.root / f"{name}.pem", self.root / f"{name}.pub"
        private.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
        public.write_bytes(
            key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
        return private, public

    def sign_theirs(self, hashing=None):
        config = model_signing.signing.Config().use_elliptic_key_signer(private_key=self.private)
        hashing = hashing or model_signing.hashing.Config()
        config.set_hashing_config(hashing.set_ignored_paths(paths=["model.sig"]))
        config.sign(self.model, self.signature)

    def verify_theirs(self):
        verifier = model_signing.verifying.Config().use_elliptic_key_verifier(public_key=self.public)
        verifier.verify(self.model, self.signature)

    def sign_ours(self):
        return run("sign", self.model, "--key", self.private)

    def verify_ours(self, *public):
        keys = [argument for key in public or [self.public] for argument in ("--key", key)]
        return run("verify", self.model, *keys)


class Signing(TestCase):
    def folder(self, *arguments):
        folder = Folder(*arguments)
        self.addCleanup(shutil.rmtree, folder.root)
        return folder

    def test_what_they_sign_is_verified_here(self):
        for curve in CURVES:
            for form in FORMATS:
                with self.subTest(curve=curve.name, form=form):
                    folder = self.folder(curve, form)
                    folder.sign_theirs()
                    done = folder.verify_ours()
                    self.assertEqual(done.returncode, 0, done.stdout)
                    self.assertIn("4 files signed by team", done.stdout)

    def test_what_is_signed_here_is_verified_by_them(self):
        for curve in CURVES:
            for form in FORMATS:
                with self.subTest(curve=curve.name, form=form):
                    folder = self.folder(curve, form)
                    done = folder.sign_ours()
                    self.assertEqual(done.returncode, 0, done.stdout)
                    folder.verify_theirs()
                    (folder.model / "model.pt").write_bytes(b"other weights")
                    with self.assertRaisesRegex(ValueError, r"Hash mismatch for .{1,2}model\.pt"):
                        folder.verify_theirs()

    def test_one_thing_wrong_is_refused_and_named(self):
        def flip(folder):
            path = folder.model / "model.pt"
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            path.write_bytes(content)

        def link(folder):
            path = folder.model / "labels.txt"
            path.rename(folder.root / "labels.txt")
            path.symlink_to(folder.root / "labels.txt")

        def another_signer(folder):
            folder.private, _ = folder.keys("another")
            folder.signature.unlink()
            folder.sign_theirs()

        cases = {
            "model.pt is not as it was signed": flip,
            "labels/en.txt was signed and is not there": lambda it: (it.model / "labels" / "en.txt").unlink(),
            "labels/de.txt was not signed": lambda it: (it.model / "labels" / "de.txt").write_text("null\n"),
            "labels.txt is a link": link,
            "signed by a key that is not trusted": another_signer,
        }
        for reason, harm in cases.items():
            with self.subTest(reason=reason):
                folder = self.folder()
                folder.sign_theirs()
                harm(folder)
                done = folder.verify_ours()
                self.assertEqual(done.returncode, 1)
                self.assertIn(reason, done.stdout)

    def test_methods_that_are_not_supported_are_refused_by_name(self):
        config = model_signing.hashing.Config
        cases = {
            "serialization.method: expected `files`, got \"shards\"": config().use_shard_serialization(),
            "serialization.hash_type: expected `sha256`, got \"blake2b\"": config().use_file_serialization(
                hashing_algorithm="blake2"
            ),
        }
        for reason, hashing in cases.items():
            with self.subTest(reason=reason):
                folder = self.folder()
                folder.sign_theirs(hashing)
                done = folder.verify_ours()
                self.assertEqual(done.returncode, 1)
                self.assertIn(reason, done.stdout)

    def test_the_server_loads_what_they_signed_and_nothing_else(self):
        folder = self.folder()
        folder.sign_theirs()
        other = folder.model.parent / "2"
        shutil.copytree(folder.model, other)
        (other / "labels.txt").write_text("changed\n")
        config = folder.root / "backend.toml"
        config.write_text(
            'listen = "127.0.0.1:0"\nmodel_repository = "repository"\nverify = "required"\n'
            'trusted_keys = ["team.pub"]\n[models.echo]\nversions = ["1", "2"]\n'
        )
        with serving(config) as addresses:

            def decided():
                _, health = get(addresses["http"], "/health")
                models = health["models"]
                return models if all(model.get("reason") != "loading" for model in models) else None

            first, second = until(decided)
        self.assertTrue(first["loaded"])
        self.assertEqual(first["signer"], "team")
        self.assertFalse(second["loaded"])
        self.assertIn("labels.txt is not as it was signed", second["reason"])
