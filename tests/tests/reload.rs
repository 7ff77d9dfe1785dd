//! The configuration changes while requests run, and none of them notices.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use aegis_e2e::{
    Binaries, CANARY, Hammer, Proxy, ProxySetup, STABLE, Scene, SceneSetup, Signal, TomlFile,
    Upstream, until,
};
use anyhow::{Result, ensure};
use http::StatusCode;
use toml_edit::Array;

const RELOADS: &str = "aegis_proxy_config_reloads_total";

/// One of each kind that an operator may save by mistake.
const BAD: [&str; 4] = [
    "[models.m.versions.1\nweight = 1\n",
    "[models.m.versions.1]\nwieght = 1\nendpoints = [\"127.0.0.1:1\"]\n",
    "[models.m.versions.1]\nweight = -1\nendpoints = [\"127.0.0.1:1\"]\n",
    "",
];

fn pool(endpoints: &[&Upstream]) -> Array {
    endpoints
        .iter()
        .map(|endpoint| endpoint.address().to_string())
        .collect()
}

async fn readings(proxy: &Proxy, result: &str) -> Result<u64> {
    proxy.metrics().await?.count(RELOADS, &[("result", result)])
}

async fn refused(proxy: &Proxy) -> Result<u64> {
    readings(proxy, "refused").await
}

/// Saves a file that is no good, and waits until it was refused; what runs stays.
async fn save_bad(proxy: &Proxy, text: &str) -> Result<()> {
    let (generation, before) = (proxy.generation().await?, refused(proxy).await?);
    proxy.file.overwrite(text)?;
    until("the bad file to be refused", async || {
        let now = refused(proxy).await?;
        ensure!(now > before, "{now} were");
        Ok(())
    })
    .await?;
    ensure!(
        proxy.generation().await? == generation,
        "a bad file was taken"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_reloads_under_load_lose_no_request() {
    let mut scene = Scene::start(2, 1).await.unwrap();
    let load = Hammer::start(scene.proxy.data(), &scene.proxy.infer_path(), "{}", 8);
    let mut generation = scene.proxy.generation().await.unwrap();
    for round in 0..20 {
        load.ask(50).await.unwrap();
        if round % 2 == 0 {
            save_bad(&scene.proxy, BAD[round / 2 % BAD.len()])
                .await
                .unwrap();
        }
        let endpoints = match round % 2 {
            0 => pool(&[&scene.stable[0]]),
            _ => pool(&[&scene.stable[0], &scene.stable[1]]),
        };
        scene.proxy.set_model("versions.1.endpoints", endpoints);
        let taken = scene.proxy.apply().await.unwrap();
        assert_eq!(taken, generation + 1, "each good file is one generation");
        generation = taken;
        if round % 2 == 1 {
            scene.proxy.until_available(STABLE, 1.0).await.unwrap();
        }
    }
    let asked = scene.stable[1].asked();
    load.ask(200).await.unwrap();
    let tally = load.stop().await;
    tally.all_ok().unwrap();
    assert!(tally.asked > 1_000);
    assert!(
        scene.stable[1].asked() > asked,
        "the endpoint that came back is used"
    );
    assert_eq!(refused(&scene.proxy).await.unwrap(), 10);
}

#[tokio::test]
async fn an_endpoint_that_was_taken_out_is_not_asked_any_more() {
    let mut scene = Scene::start(2, 0).await.unwrap();
    let staying = pool(&[&scene.stable[0]]);
    scene.proxy.set_model("versions.1.endpoints", staying);
    scene.proxy.apply().await.unwrap();
    let asked = scene.stable[1].asked();
    for _ in 0..50 {
        assert_eq!(
            scene.proxy.infer("{}").await.unwrap().status,
            StatusCode::OK
        );
    }
    assert_eq!(scene.stable[1].asked(), asked);
    let metrics = scene.proxy.metrics().await.unwrap();
    let gone = scene.stable[1].address().to_string();
    let series = metrics
        .samples("aegis_proxy_breaker_state", &[("endpoint", &gone)])
        .count();
    assert_eq!(series, 0, "its series went with it");
}

#[tokio::test]
async fn an_edited_weight_moves_the_traffic() {
    let mut scene = Scene::start(1, 1).await.unwrap();
    scene.proxy.set_model("versions.1.weight", 0);
    scene.proxy.apply().await.unwrap();
    for _ in 0..100 {
        assert_eq!(scene.proxy.infer("{}").await.unwrap().version(), CANARY);
    }
    let metrics = scene.proxy.metrics().await.unwrap();
    let weight = |version| metrics.value("aegis_proxy_split_weight", &[("model_version", version)]);
    assert_eq!((weight(STABLE), weight(CANARY)), (Some(0.0), Some(10.0)));
}

#[tokio::test]
async fn a_breaker_keeps_its_state_across_a_reload() {
    let setup = SceneSetup::new(1, 1).await.unwrap();
    let setup = setup.with(|proxy| proxy.set_model("breaker.open_base_ms", 120_000));
    let mut scene = setup.start().await.unwrap();
    scene.canary[0].play(aegis_e2e::Play::Status(StatusCode::INTERNAL_SERVER_ERROR));
    let load = Hammer::start(scene.proxy.data(), &scene.proxy.infer_path(), "{}", 4);
    scene.proxy.until_available(CANARY, 0.0).await.unwrap();
    load.stop().await;
    scene.proxy.set_model("versions.2.weight", 50);
    scene.proxy.apply().await.unwrap();
    let metrics = scene.proxy.metrics().await.unwrap();
    let state = metrics.value("aegis_proxy_breaker_state", &[("model_version", CANARY)]);
    assert_eq!(state, Some(2.0), "still open");
}

/// A proxy whose configuration the file system cannot tell it about: the file is a link into a
/// folder that nobody watches.
async fn behind_a_link(folder: &Path, endpoint: &Upstream) -> (Proxy, TomlFile) {
    fs::create_dir(folder.join("elsewhere")).unwrap();
    let setup = ProxySetup::new("m").pool(STABLE, 1, &[endpoint.address()]);
    let real = TomlFile::new(folder.join("elsewhere/real.toml"), &setup.text()).unwrap();
    real.save().unwrap();
    let link = folder.join("proxy.toml");
    symlink(real.path(), &link).unwrap();
    let file = TomlFile::open(&link).unwrap();
    let proxy = Proxy::serve(Binaries::built().unwrap(), "m", file)
        .await
        .unwrap();
    proxy.settled().await.unwrap();
    (proxy, real)
}

#[tokio::test]
async fn a_hangup_signal_takes_the_file() {
    let endpoint = Upstream::start("m", STABLE).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (proxy, mut real) = behind_a_link(folder.path(), &endpoint).await;
    // Only a reading that was asked for is counted when it finds nothing new.
    proxy.process.signal(Signal::HUP).unwrap();
    until("the reading", async || {
        ensure!(readings(&proxy, "unchanged").await? == 1);
        Ok(())
    })
    .await
    .unwrap();
    real.set("models.m.versions.1.weight", 7).save().unwrap();
    proxy.process.signal(Signal::HUP).unwrap();
    assert_eq!(proxy.generation_after(1).await.unwrap(), 2);

    real.overwrite("nonsense").unwrap();
    proxy.process.signal(Signal::HUP).unwrap();
    until("the refusal", async || {
        ensure!(refused(&proxy).await? >= 1);
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(proxy.generation().await.unwrap(), 2);
}

#[tokio::test]
async fn a_post_to_the_admin_port_takes_the_file_and_answers_what_became_of_it() {
    let endpoint = Upstream::start("m", STABLE).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (proxy, mut real) = behind_a_link(folder.path(), &endpoint).await;
    let client = aegis_e2e::Client::new();
    real.set("models.m.versions.1.weight", 7).save().unwrap();
    let taken = client.post(proxy.admin(), "/reload", "").await.unwrap();
    assert_eq!(taken.status, StatusCode::OK, "{taken:?}");
    assert_eq!(proxy.generation().await.unwrap(), 2);

    real.overwrite(BAD[1]).unwrap();
    let refused = client.post(proxy.admin(), "/reload", "").await.unwrap();
    assert!(refused.status.is_client_error(), "{refused:?}");
    assert!(refused.text().contains("wieght"), "{refused:?}");
    assert_eq!(proxy.generation().await.unwrap(), 2);
    let wrong = client.get(proxy.admin(), "/reload").await.unwrap();
    assert_eq!(wrong.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_mounted_config_map_is_taken_when_its_link_is_swapped() {
    let endpoint = Upstream::start("m", STABLE).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let setup = ProxySetup::new("m").pool(STABLE, 1, &[endpoint.address()]);
    // As a kubelet lays it out: proxy.toml -> ..data/proxy.toml, ..data -> ..first.
    let mut file = TomlFile::new(at("..first").join("proxy.toml"), &setup.text()).unwrap();
    fs::create_dir(at("..first")).unwrap();
    file.save().unwrap();
    symlink("..first", at("..data")).unwrap();
    symlink("..data/proxy.toml", at("proxy.toml")).unwrap();
    let config = TomlFile::open(at("proxy.toml")).unwrap();
    let proxy = Proxy::serve(Binaries::built().unwrap(), "m", config)
        .await
        .unwrap();
    proxy.settled().await.unwrap();

    file.set("models.m.versions.1.weight", 7);
    fs::create_dir(at("..second")).unwrap();
    file.at(at("..second").join("proxy.toml")).save().unwrap();
    symlink("..second", at("..data_tmp")).unwrap();
    fs::rename(at("..data_tmp"), at("..data")).unwrap();
    assert_eq!(proxy.generation_after(1).await.unwrap(), 2);
    let metrics = proxy.metrics().await.unwrap();
    let weight = metrics.value("aegis_proxy_split_weight", &[("model_version", STABLE)]);
    assert_eq!(weight, Some(7.0));
}

#[tokio::test]
async fn what_needs_a_restart_is_refused_with_a_word_about_it() {
    let mut scene = Scene::start(1, 0).await.unwrap();
    let admin = scene.proxy.admin().to_string();
    scene.proxy.file.set("listen.data", admin);
    let text = scene.proxy.file.text();
    save_bad(&scene.proxy, &text).await.unwrap();
    let status = scene.proxy.ask_admin("/status").await.unwrap();
    assert!(status.text().contains("listen.data"), "{}", status.text());
}
