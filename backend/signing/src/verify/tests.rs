//! One thing wrong at a time, and each is named.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};

use super::{Request, VerifyError, verify, verify_archive};
use crate::archive::Contents;
use crate::bundle::{Bundle, signed_bytes};
use crate::fixture::{key, model, request, sign, trusted, write};
use crate::outcome::Outcome;

/// Verifies with key 7, and expects it to fail in this way and with these words.
#[track_caller]
fn refused(folder: &Path, outcome: Outcome, words: &str) {
    let error = verify(request(folder), &trusted(&[7])).unwrap_err();
    let text = chain(&error);
    assert_eq!(error.outcome(), outcome, "{text}");
    assert!(text.contains(words), "{text}");
}

fn chain(error: &dyn std::error::Error) -> String {
    let source = error.source().map(|source| format!(": {}", chain(source)));
    format!("{error}{}", source.unwrap_or_default())
}

/// Changes a value of the bundle's JSON.
fn tamper(folder: &Path, at: &str, change: impl Fn(&mut Value)) {
    let path = folder.join("model.sig");
    let mut bundle: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(bundle.pointer_mut(at).unwrap());
    fs::write(path, bundle.to_string()).unwrap();
}

/// Signs this statement in place of an honest one.
fn sign_statement(folder: &Path, statement: &[u8]) {
    let key = key(7);
    let signature = key.sign(&signed_bytes(statement));
    let fingerprint = key.public().unwrap().fingerprint();
    let bundle = Bundle::write(statement, &signature, fingerprint).unwrap();
    fs::write(folder.join("model.sig"), bundle).unwrap();
}

#[test]
fn a_signed_folder_is_verified_and_its_bytes_are_handed_out() {
    let folder = model();
    sign(folder.path(), 7);
    let verified = verify(request(folder.path()), &trusted(&[6, 7])).unwrap();
    fs::write(folder.path().join("model.pt"), b"changed a moment later").unwrap();
    assert_eq!(verified.signer, "key-7");
    assert_eq!(verified.files, 3);
    assert_eq!(verified.kept.len(), 1);
    assert_eq!(verified.kept["model.pt"].read().unwrap(), b"weights");
}

#[test]
fn a_flipped_byte_in_any_file_is_found() {
    for name in ["model.pt", "model.toml", "labels/en.txt"] {
        let folder = model();
        sign(folder.path(), 7);
        let mut bytes = fs::read(folder.path().join(name)).unwrap();
        bytes[2] ^= 1;
        write(folder.path(), name, &bytes);
        refused(
            folder.path(),
            Outcome::Changed,
            &format!("{name} is not as it was signed"),
        );
    }
}

#[test]
fn a_missing_file_is_named() {
    let folder = model();
    sign(folder.path(), 7);
    fs::remove_file(folder.path().join("labels/en.txt")).unwrap();
    refused(
        folder.path(),
        Outcome::Missing,
        "labels/en.txt was signed and is not there",
    );
}

#[test]
fn an_extra_file_is_named() {
    let folder = model();
    sign(folder.path(), 7);
    write(folder.path(), "labels/de.txt", b"null\neins\n");
    refused(
        folder.path(),
        Outcome::Unlisted,
        "labels/de.txt was not signed",
    );
}

#[test]
fn a_link_is_refused_even_to_the_same_bytes() {
    let folder = model();
    sign(folder.path(), 7);
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("model.pt");
    fs::rename(folder.path().join("model.pt"), &target).unwrap();
    symlink(&target, folder.path().join("model.pt")).unwrap();
    refused(folder.path(), Outcome::Link, "model.pt is a link");
}

#[test]
fn a_folder_that_is_a_link_is_refused() {
    let folder = model();
    sign(folder.path(), 7);
    let elsewhere = tempfile::tempdir().unwrap();
    fs::rename(
        folder.path().join("labels"),
        elsewhere.path().join("labels"),
    )
    .unwrap();
    symlink(
        elsewhere.path().join("labels"),
        folder.path().join("labels"),
    )
    .unwrap();
    refused(folder.path(), Outcome::Link, "labels is a link");
}

#[test]
fn without_a_signature_nothing_is_verified() {
    refused(model().path(), Outcome::Unsigned, "not signed: there is no");
}

#[test]
fn the_key_must_be_trusted_and_is_named_by_its_fingerprint() {
    let folder = model();
    sign(folder.path(), 8);
    let fingerprint = key(8).public().unwrap().fingerprint();
    refused(folder.path(), Outcome::Untrusted, &fingerprint.to_string());
    let error = verify(request(folder.path()), &[]).unwrap_err();
    assert!(error.to_string().ends_with("trusted are none"), "{error}");
}

#[test]
fn to_name_a_trusted_key_is_not_to_be_it() {
    let folder = model();
    sign(folder.path(), 8);
    let hint = key(7).public().unwrap().fingerprint().to_string();
    tamper(
        folder.path(),
        "/verificationMaterial/publicKey/hint",
        |value| *value = json!(hint),
    );
    refused(folder.path(), Outcome::Untrusted, "not that of key key-7");
}

#[test]
fn without_a_hint_every_trusted_key_is_tried() {
    let folder = model();
    sign(folder.path(), 7);
    tamper(
        folder.path(),
        "/verificationMaterial/publicKey/hint",
        |value| *value = Value::Null,
    );
    let verified = verify(request(folder.path()), &trusted(&[5, 6, 7])).unwrap();
    assert_eq!(verified.signer, "key-7");
    let error = verify(request(folder.path()), &trusted(&[5])).unwrap_err();
    assert_eq!(error.outcome(), Outcome::Untrusted);
}

#[test]
fn a_payload_that_was_not_signed_is_not_even_read() {
    let folder = model();
    sign(folder.path(), 7);
    tamper(folder.path(), "/dsseEnvelope/payload", |value| {
        *value = json!("bm90IEpTT04=");
    });
    refused(folder.path(), Outcome::Untrusted, "was changed");
}

#[test]
fn a_signed_statement_that_is_not_understood_is_refused() {
    let folder = model();
    sign_statement(folder.path(), br#"{"_type":"https://in-toto.io/Statement/v1","subject":[],"predicateType":"https://slsa.dev/provenance/v1","predicate":{}}"#);
    refused(
        folder.path(),
        Outcome::BadSignature,
        "predicateType: expected `https://model_signing/signature/v1.0`",
    );
}

#[test]
fn garbage_in_place_of_a_signature_is_refused() {
    for garbage in [&b""[..], b"{}", b"\xff\xfe", b"[[[[[[[["] {
        let folder = model();
        write(folder.path(), "model.sig", garbage);
        refused(folder.path(), Outcome::BadSignature, "no Sigstore bundle");
    }
}

#[test]
fn a_signature_that_is_a_link_is_not_followed() {
    let folder = model();
    sign(folder.path(), 7);
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("model.sig");
    fs::rename(folder.path().join("model.sig"), &target).unwrap();
    symlink(&target, folder.path().join("model.sig")).unwrap();
    refused(folder.path(), Outcome::Unreadable, "cannot read");
}

#[test]
fn what_the_signer_left_out_may_be_there_and_is_not_handed_out() {
    let folder = model();
    write(folder.path(), ".git/model.pt", b"anything");
    sign(folder.path(), 7);
    write(folder.path(), ".git/model.pt", b"something else");
    let keep = [".git/model.pt"];
    let wanted = Request {
        keep: &keep,
        ..request(folder.path())
    };
    assert!(verify(wanted, &trusted(&[7])).unwrap().kept.is_empty());
}

#[test]
fn a_signature_may_lie_elsewhere() {
    let (folder, elsewhere) = (model(), tempfile::tempdir().unwrap());
    let path = elsewhere.path().join("digits.sig");
    let bundle = crate::sign(folder.path(), &path, &key(7)).unwrap();
    fs::write(&path, bundle).unwrap();
    let wanted = Request {
        signature: Some(&path),
        ..request(folder.path())
    };
    verify(wanted, &trusted(&[7])).unwrap();
}

#[test]
fn more_bytes_than_allowed_are_not_read() {
    let folder = model();
    sign(folder.path(), 7);
    let wanted = Request {
        max_bytes: 20,
        ..request(folder.path())
    };
    let error = verify(wanted, &trusted(&[7])).unwrap_err();
    assert_eq!(error.outcome(), Outcome::TooLarge, "{error}");
    assert!(matches!(error, VerifyError::Read(_)));
}

/// What is in the folder, as a tar file.
fn packed(folder: &Path) -> (tempfile::TempDir, std::path::PathBuf) {
    let elsewhere = tempfile::tempdir().unwrap();
    let path = elsewhere.path().join("model.tar");
    let mut builder = tar::Builder::new(fs::File::create(&path).unwrap());
    builder.append_dir_all(".", folder).unwrap();
    builder.finish().unwrap();
    (elsewhere, path)
}

fn read(archive: &Path) -> Contents {
    Contents::read(
        archive,
        &["model.pt", "model.sig", ".git/model.pt"],
        1 << 20,
    )
    .unwrap()
}

#[test]
fn an_archive_is_verified_like_the_folder_that_it_holds() {
    let folder = model();
    write(folder.path(), ".git/model.pt", b"left out");
    sign(folder.path(), 7);
    let (_elsewhere, archive) = packed(folder.path());
    let from_archive = verify_archive(read(&archive), &trusted(&[7])).unwrap();
    let from_folder = verify(request(folder.path()), &trusted(&[7])).unwrap();
    assert_eq!(from_archive.digest, from_folder.digest);
    assert_eq!(from_archive.files, 3);
    let kept: Vec<_> = from_archive.kept.keys().collect();
    assert_eq!(kept, ["model.pt"], "and nothing that was left out");
}

#[test]
fn one_thing_wrong_in_an_archive_is_named() {
    type Break = fn(&Path);
    let cases: [(Break, Outcome); 4] = [
        (
            |folder| write(folder, "model.pt", b"Weights"),
            Outcome::Changed,
        ),
        (|folder| write(folder, "extra", b""), Outcome::Unlisted),
        (
            |folder| fs::remove_file(folder.join("model.toml")).unwrap(),
            Outcome::Missing,
        ),
        (
            |folder| fs::remove_file(folder.join("model.sig")).unwrap(),
            Outcome::Unsigned,
        ),
    ];
    for (break_it, outcome) in cases {
        let folder = model();
        sign(folder.path(), 7);
        break_it(folder.path());
        let (_elsewhere, archive) = packed(folder.path());
        let error = verify_archive(read(&archive), &trusted(&[7])).unwrap_err();
        assert_eq!(error.outcome(), outcome, "{error}");
    }
}
