//! Configurations that name a service: checked, and taken while requests run.

use std::path::Path;

use aegis_e2e::{Binaries, Mood, Process, STABLE, until};
use anyhow::ensure;
use toml_edit::InlineTable;

use crate::{MODEL, Rig, SERVICE, endpoints, hammer, of_service, status};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_goes_over_to_a_service_and_back_without_a_gap() {
    let rig = Rig::new(2).await;
    let listed = rig.pods[0].address();
    let setup = rig.setup().pool(STABLE, 1, &[listed]);
    let mut proxy = setup.start(Binaries::built().unwrap()).await.unwrap();
    let load = hammer(&proxy);
    load.ask(50).await.unwrap();
    assert_eq!(rig.cluster.asked().lists, 0, "nobody is asked for nothing");

    // To a service that nobody tells of yet.
    rig.cluster.set_mood(Mood::Silent);
    let key = format!("versions.{STABLE}");
    proxy
        .file
        .remove(&format!("models.{MODEL}.{key}.endpoints"));
    let own = InlineTable::from_iter([("service", SERVICE.1)]);
    proxy.set_model(&format!("{key}.kubernetes"), own);
    proxy.apply().await.unwrap();
    load.ask(50).await.unwrap();
    let kept = &endpoints(&proxy).await.unwrap()[0];
    assert_eq!(kept["kept_for"], "digits:*", "{kept}");
    let requests = kept["requests"].as_u64().unwrap();

    // The namespace is the one that the credentials belong to, the port the only one.
    rig.set(&rig.ready([0, 1]));
    rig.cluster.set_mood(Mood::Well);
    let pool = rig.until_pool_is(&proxy, &[0, 1]).await;
    let stayed = pool.iter().find(|at| at["address"] == listed.to_string());
    assert!(stayed.unwrap()["requests"].as_u64().unwrap() >= requests);
    let target = rig.cluster.asked().targets[0].clone();
    assert!(target.contains("/namespaces/models/"), "{target}");

    // To a service that there is none of, and to a port that its pods do not have.
    for (name, port, problem) in [
        (
            "digitz",
            "http",
            "it has no pods, or there is no such service",
        ),
        (
            SERVICE.1,
            "grpc",
            "it has no port grpc; its pods have: http=",
        ),
    ] {
        let wrong = InlineTable::from_iter([("service", name), ("port", port)]);
        proxy.set_model(&format!("{key}.kubernetes"), wrong);
        proxy.apply().await.unwrap();
        until("the problem to be told", async || {
            let status = status(&proxy).await?;
            let version = &status["models"][MODEL]["versions"][STABLE];
            let told = version["service"]["problem"].as_str().unwrap_or_default();
            ensure!(told.contains(problem), "{version}");
            Ok(())
        })
        .await
        .unwrap();
        load.ask(50).await.unwrap();
        let endpoints = endpoints(&proxy).await.unwrap();
        let place = format!("{name}:{port}");
        let kept = endpoints.iter().all(|at| at["kept_for"] == place.as_str());
        assert!(kept && endpoints.len() == 2, "{endpoints:?}");
    }

    proxy
        .file
        .remove(&format!("models.{MODEL}.{key}.kubernetes"));
    let addresses: toml_edit::Array = [listed.to_string()].into_iter().collect();
    proxy.set_model(&format!("{key}.endpoints"), addresses);
    proxy.apply().await.unwrap();
    rig.until_pool_is(&proxy, &[0]).await;
    load.ask(50).await.unwrap();
    load.stop().await.all_ok().unwrap();
    assert!(of_service(&proxy).await.is_null());
}

#[tokio::test]
async fn a_configuration_is_checked_without_a_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let check = async |text: &str| {
        let file = folder.path().join("proxy.toml");
        std::fs::write(&file, text).unwrap();
        let arguments = [Path::new("check"), &file];
        let proxy = &Binaries::built().unwrap().proxy;
        Process::run(proxy, arguments).await.unwrap()
    };
    let good = "[kubernetes]\nkubeconfig = \"/no/such/file\"\n[models.m.versions.1]\nweight = 1\n\
                kubernetes = { service = \"digits\", namespace = \"models\", port = 8000 }\n";
    let finished = check(good).await;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let finished = check(&good.replace("8000", "-1")).await;
    assert_eq!(finished.code, Some(78), "{finished:?}");
    let fault = "proxy.toml:5: models.m.versions.1.kubernetes.port:";
    assert!(finished.stderr.contains(fault), "{finished:?}");
}
