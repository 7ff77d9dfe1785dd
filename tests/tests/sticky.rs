//! A client stays with one version, by whatever stands for it.

use aegis_e2e::{Client, Scene, SceneSetup};
use http::{HeaderName, header};

/// Base64url of `{"sub":"client-NN"}`, by the letters that NN becomes.
fn token(client: usize) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let claims = format!("{{\"sub\":\"client-{client}\",\"exp\":1}}");
    let mut text = String::from("e30.");
    for chunk in claims.as_bytes().chunks(3) {
        let mut bits = [0; 3];
        bits[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, bits[0], bits[1], bits[2]]);
        for at in 0..=chunk.len() {
            let digit = (bits >> (18 - 6 * at)) & 0x3f;
            text.push(DIGITS[digit as usize].into());
        }
    }
    text + ".bm90LWNoZWNrZWQ"
}

/// The version that answers each of 60 clients, who all ask `times` times.
async fn versions(scene: &Scene, name: &HeaderName, scheme: &str, times: usize) -> Vec<String> {
    let client = Client::new();
    let infer = scene.proxy.infer_path();
    let mut versions = Vec::new();
    for number in 0..60 {
        let value = format!("{scheme}{}", token(number));
        let mut answers = Vec::new();
        for _ in 0..times {
            let headers = [(name.clone(), &*value)];
            let answer = client
                .post_with(scene.proxy.data(), &infer, "{}", &headers)
                .await;
            let answer = answer.unwrap_or_else(|error| panic!("client {number}: {error:#}"));
            assert_eq!(answer.route(), "sticky");
            answers.push(answer.version().to_owned());
        }
        answers.dedup();
        assert_eq!(answers.len(), 1, "client {number} moved");
        versions.extend(answers);
    }
    versions
}

#[tokio::test]
async fn the_holder_of_a_token_stays_with_one_version_by_its_claim() {
    let setup = SceneSetup::new(1, 1).await.unwrap().with(|proxy| {
        proxy
            .set_model("versions.1.weight", 50)
            .set_model("versions.2.weight", 50)
            .set_model("sticky.jwt_claim", "sub")
    });
    let mut scene = setup.start().await.unwrap();
    let before = versions(&scene, &header::AUTHORIZATION, "Bearer ", 3).await;
    assert!(
        before.contains(&"1".to_owned()) && before.contains(&"2".to_owned()),
        "{before:?}"
    );
    // Fewer stay with the canary, and nobody moves to it.
    scene.proxy.set_model("versions.2.weight", 10);
    scene.proxy.apply().await.unwrap();
    let after = versions(&scene, &header::AUTHORIZATION, "Bearer ", 1).await;
    for (before, after) in before.iter().zip(&after) {
        assert!(before == after || (before == "2" && after == "1"));
    }
    assert_ne!(before, after);
    // Who brings no token is drawn by weight.
    let answer = scene.proxy.infer("{}").await.unwrap();
    assert_eq!(answer.route(), "split");
}

#[tokio::test]
async fn the_token_may_stand_in_any_header() {
    let setup = SceneSetup::new(1, 1).await.unwrap().with(|proxy| {
        proxy
            .set_model("sticky.jwt_claim", "sub")
            .set_model("sticky.jwt_header", "x-id-token")
    });
    let scene = setup.start().await.unwrap();
    versions(&scene, &HeaderName::from_static("x-id-token"), "", 1).await;
}
