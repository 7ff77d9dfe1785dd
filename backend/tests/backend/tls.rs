//! Archives over HTTPS, from a registry whose certificate a CA of one's own has signed.
//!
//! Whom a process trusts is said by its environment, so the server is a process of its own here.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use aegis_signing::Digest;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use crate::cli::Running;
use crate::fetch::{answer, archive};

/// A CA, and the certificate of a registry on this machine that it has signed.
struct Authority {
    pem: String,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let names = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let signed = names.signed_by(&key, &ca).unwrap();
        Self {
            pem: ca.pem(),
            chain: vec![signed.der().clone()],
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        }
    }

    /// Answers whoever trusts the CA, again and again.
    fn serve(self, answer: Vec<u8>) -> SocketAddr {
        let provider = Arc::new(ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(self.chain, self.key);
        let config = Arc::new(config.unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = StreamOwned::new(connection, stream.unwrap());
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                    head.push(byte[0]);
                }
                let _ = stream.write_all(&answer);
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        });
        address
    }
}

/// What health says of the one model, once it is decided.
fn decided(address: SocketAddr) -> Value {
    loop {
        let mut stream = TcpStream::connect(address).unwrap();
        let request = b"GET /health HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        stream.write_all(request).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (_, body) = text.split_once("\r\n\r\n").unwrap();
        let health: Value = serde_json::from_str(body).unwrap();
        if health["models"][0]["reason"] != "loading" {
            return health["models"][0].clone();
        }
        thread::yield_now();
    }
}

/// Serves a model from the registry, trusting only this bundle.
fn model(registry: SocketAddr, sha256: Digest, bundle: &Path) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "listen = \"127.0.0.1:0\"\ndrain_delay_ms = 0\nfetch_timeout_ms = 5000\n\
         [models.echo]\nversions = [\"7\"]\n\
         [models.echo.sources.7]\nfrom = \"https://{registry}/echo.tar\"\nsha256 = \"{sha256}\"\n"
    );
    let file = folder.path().join("backend.toml");
    fs::write(&file, text).unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_aegis-backend"));
    program.args(["serve", "--config"]).arg(&file);
    program
        .env("SSL_CERT_FILE", bundle)
        .env_remove("SSL_CERT_DIR");
    program.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut running = Running(program.spawn().unwrap());
    let mut stdout = BufReader::new(running.0.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    let line: Value = serde_json::from_str(&line).unwrap();
    decided(line["http"].as_str().unwrap().parse().unwrap())
}

#[test]
fn a_registry_is_trusted_by_a_ca_of_ones_own_and_by_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, others) = (
        folder.path().join("ours.pem"),
        folder.path().join("others.pem"),
    );
    let authority = Authority::new();
    fs::write(&ours, &authority.pem).unwrap();
    fs::write(&others, Authority::new().pem).unwrap();
    let bytes = archive(|_| {});
    let registry = authority.serve(answer("200 OK", &bytes));

    let served = model(registry, Digest::of(&bytes), &ours);
    assert_eq!(served["loaded"], true, "{served}");

    let refused = model(registry, Digest::of(&bytes), &others);
    assert_eq!(refused["loaded"], false, "{refused}");
    let reason = refused["reason"].as_str().unwrap().to_lowercase();
    assert!(reason.contains("certificate"), "{reason}");
}
