//! Servers and the log learn who asked, and only trusted proxies are believed.

use aegis_e2e::{Client, Scene, SceneSetup, until};
use anyhow::{Context, Result};
use http::{HeaderName, header};
use serde_json::Value;
use tempfile::TempDir;
use toml_edit::Array;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const CLAIMS: [(HeaderName, &str); 4] = [
    (FOR, "203.0.113.7, 198.51.100.3"),
    (PROTO, "https"),
    (HOST, "models.example"),
    (header::FORWARDED, "for=198.51.100.3;proto=https"),
];

/// A scene that trusts these networks, and a log of it.
async fn scene(trusted: &[&str]) -> Result<(Scene, TempDir)> {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("access.log").display().to_string();
    let trusted: Array = trusted.iter().copied().collect();
    let setup = SceneSetup::new(1, 0).await?.with(|proxy| {
        let proxy = proxy.set("access_log.path", log);
        proxy.set("forwarded.trusted", trusted)
    });
    Ok((setup.start().await?, folder))
}

/// Asks once, and returns what the server saw of each header, and the line in the log.
async fn ask(scene: &Scene, folder: &TempDir) -> Result<([Vec<String>; 4], Value)> {
    let infer = scene.proxy.infer_path();
    Client::new()
        .post_with(scene.proxy.data(), &infer, "{}", &CLAIMS)
        .await?;
    let seen = scene.stable[0].take_seen();
    let headers = &seen.first().context("nothing arrived")?.headers;
    let values = CLAIMS.map(|(name, _)| {
        let values = headers.get_all(name).iter();
        values
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect()
    });
    let path = folder.path().join("access.log");
    let line = until("a line", async || {
        let text = std::fs::read_to_string(&path)?;
        let line = text.lines().next().context("there is none")?;
        Ok(serde_json::from_str(line)?)
    });
    Ok((values, line.await?))
}

#[tokio::test]
async fn what_a_stranger_says_of_itself_is_replaced_by_what_is_seen() {
    let (scene, folder) = scene(&["10.0.0.0/8"]).await.unwrap();
    let ([by, proto, host, forwarded], line) = ask(&scene, &folder).await.unwrap();
    assert_eq!(by, ["127.0.0.1"]);
    assert_eq!(proto, ["http"]);
    // `Host` says it already.
    assert!(host.is_empty(), "{host:?}");
    assert!(forwarded.is_empty(), "{forwarded:?}");
    assert_eq!(line["client"], "127.0.0.1", "{line}");
}

#[tokio::test]
async fn what_a_trusted_proxy_says_is_believed_and_gone_on_with() {
    let (scene, folder) = scene(&["127.0.0.0/8"]).await.unwrap();
    let ([by, proto, host, forwarded], line) = ask(&scene, &folder).await.unwrap();
    assert_eq!(by, ["203.0.113.7, 198.51.100.3, 127.0.0.1"]);
    assert_eq!(proto, ["https"]);
    assert_eq!(host, ["models.example"]);
    assert_eq!(forwarded, ["for=198.51.100.3;proto=https, for=127.0.0.1"]);
    assert_eq!(line["client"], "198.51.100.3", "{line}");
}
