//! Whom the proxy trusts, and as whom it asks.

use std::path::Path;

use aegis_e2e::Cluster;

use crate::{NAMESPACE, Rig, heard, of_service, until_heard};

#[tokio::test]
async fn a_cluster_is_asked_over_tls_and_a_new_token_is_read_at_once() {
    let mut rig = Rig::new(2).await;
    rig.cluster = Cluster::start_secure().await.unwrap();
    rig.set(&rig.ready([0]));
    let proxy = rig.start().await;
    rig.until_pool_is(&proxy, &[0]).await;
    let folder = rig.folder.path();
    rig.cluster.rotate_token(folder, "another").unwrap();
    rig.cluster.cut();
    rig.set(&rig.ready([0, 1]));
    rig.until_pool_is(&proxy, &[0, 1]).await;
    assert!(heard(&proxy, "refused").await >= 1, "the old one was tried");
    let credentials = rig.cluster.asked().credentials;
    assert_eq!(credentials.as_deref(), Some("Bearer another"));
}

#[tokio::test]
async fn an_api_server_with_a_strange_certificate_is_not_asked() {
    let mut rig = Rig::new(1).await;
    rig.cluster = Cluster::start_secure().await.unwrap();
    rig.set(&rig.ready([0]));
    let setup = rig.setup();
    // Whom to trust is somebody else.
    let other = Cluster::start_secure().await.unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    other.write_kubeconfig(elsewhere.path(), NAMESPACE).unwrap();
    let authority = |folder: &Path| folder.join("ca.crt");
    std::fs::copy(authority(elsewhere.path()), authority(rig.folder.path())).unwrap();
    let proxy = rig.start_as(setup).await;
    until_heard(&proxy, "unreachable", 1).await;
    let error = of_service(&proxy).await["error"].clone();
    let error = error.as_str().unwrap();
    assert!(error.contains("certificate"), "{error}");
    assert_eq!(rig.cluster.asked().targets.len(), 0);
}
