//! The scripted server does what its script says, seen from a client.

use aegis_protocol::headers;

use super::*;
use crate::Client;

const PATH: &str = "/v2/models/m/versions/3/infer";

#[tokio::test]
async fn an_answer_echoes_and_names_its_version_and_the_request_is_kept() {
    let upstream = Upstream::start("m", "3").await.unwrap();
    let answer = Client::new()
        .post(upstream.address(), PATH, "{}")
        .await
        .unwrap();
    assert_eq!((answer.status, answer.version()), (StatusCode::OK, "3"));
    assert!(
        answer
            .text()
            .contains("POST /v2/models/m/versions/3/infer 2 bytes"),
        "{answer:?}"
    );
    let seen = upstream.take_seen();
    assert_eq!(
        (seen.len(), &*seen[0].body, upstream.asked()),
        (1, &b"{}"[..], 1)
    );
}

#[tokio::test]
async fn plays_are_taken_once_each_and_then_the_standing_one() {
    let upstream = Upstream::start("m", "3").await.unwrap();
    upstream.play(Play::Status(StatusCode::BAD_GATEWAY));
    upstream.play_once(Play::Refuse(Reason::QueueFull));
    upstream.play_once(Play::Answer);
    let client = Client::new();
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(
            client
                .post(upstream.address(), PATH, "")
                .await
                .unwrap()
                .status
                .as_u16(),
        );
    }
    assert_eq!(statuses, [429, 200, 502]);
}

#[tokio::test]
async fn a_hang_up_and_a_reset_are_no_answer() {
    let upstream = Upstream::start("m", "3").await.unwrap();
    for play in [Play::HangUp, Play::HangUpEarly, Play::Reset] {
        upstream.play_once(play);
        let lost = Client::new()
            .post(upstream.address(), PATH, "{}")
            .await
            .unwrap_err();
        let reset = format!("{lost:#}").contains("reset");
        assert_eq!(reset, play == Play::Reset, "{play:?}: {lost:#}");
    }
}

#[tokio::test]
async fn health_is_told_apart_from_what_happens_to_inferences() {
    let upstream = Upstream::start("m", "3").await.unwrap();
    upstream.play(Play::Hang);
    let client = Client::new();
    for (health, status, reason) in [
        (Health::Ready, 200, ""),
        (Health::NotLoaded, 503, "not_ready"),
        (Health::Draining, 503, "draining"),
    ] {
        upstream.set_health(health);
        let ready = client
            .get(upstream.address(), "/v2/models/m/versions/3/ready")
            .await
            .unwrap();
        assert_eq!(
            (ready.status.as_u16(), ready.header(&headers::REASON)),
            (status, reason)
        );
        let report = client.get(upstream.address(), "/health").await.unwrap();
        assert_eq!(report.status.as_u16(), status);
        assert_eq!(
            report.json().unwrap()["loaded"],
            health != Health::NotLoaded
        );
    }
    assert_eq!(upstream.asked(), 0);
}

#[tokio::test]
async fn once_stopped_connections_are_refused() {
    let upstream = Upstream::start("m", "3").await.unwrap();
    let address = upstream.address();
    upstream.stop().await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
