//! Clients of HTTP/2 that send what costs them little and the proxy much: the connection is bounded
//! or ends, memory stays where it was, and whoever else asks is answered meanwhile.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::time::Duration;

use aegis_e2e::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, HEADERS, PING, PRIORITY,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, field, frame, request, request_block,
};
use aegis_e2e::{FrameClient, Hammer, PATIENCE, Play, ProxySetup, Scene, SceneSetup, until};
use aegis_protocol::path;
use anyhow::ensure;

const MIB: u64 = 1024 * 1024;
const WHOLE: u8 = END_STREAM | END_HEADERS;
const GIVEN_UP: &str = "aegis_proxy_h2_given_up_total";
/// The first byte of a block whose status is 200 (RFC 7541, A).
const OK: u8 = 0x88;

/// A proxy with clients that ask version 2 all the time, while version 1 is abused.
struct Edge {
    scene: Scene,
    others: Hammer,
    /// Asks version 1.
    path: String,
    resident: u64,
}

impl Edge {
    async fn start() -> Self {
        Self::with(|proxy| proxy).await
    }

    async fn with(change: impl FnOnce(ProxySetup) -> ProxySetup) -> Self {
        let setup = SceneSetup::new(1, 1).await.unwrap();
        // Others are answered; how soon, a machine that is busy with several floods does not tell.
        let scene = setup.with(|proxy| {
            let patience = i64::try_from(PATIENCE.as_millis()).unwrap();
            change(proxy.set_model("timeouts.request_ms", patience))
        });
        let scene = scene.start().await.unwrap();
        let theirs = path::infer("m", Some("2"));
        let others = Hammer::start(scene.proxy.data(), &theirs, "{}", 2);
        // What it needs once is there.
        others.ask(200).await.unwrap();
        let resident = scene.proxy.process.resident_bytes().unwrap();
        Self {
            scene,
            others,
            path: path::infer("m", Some("1")),
            resident,
        }
    }

    async fn client(&self) -> FrameClient {
        FrameClient::open(self.scene.proxy.data(), &[])
            .await
            .unwrap()
    }

    /// How much more memory it has than before.
    fn grown(&self) -> u64 {
        let now = self.scene.proxy.process.resident_bytes().unwrap();
        now.saturating_sub(self.resident)
    }

    async fn given_up(&self, error: &str) -> u64 {
        let metrics = self.scene.proxy.metrics().await.unwrap();
        metrics.count(GIVEN_UP, &[("error", error)]).unwrap()
    }

    /// The others are still answered, each of them, and nothing of the abuse is left.
    async fn stays_well(self) {
        self.others.ask(50).await.unwrap();
        let theirs = self.others.stop().await;
        assert!(theirs.failures.is_empty(), "{:?}", theirs.failures);
        self.scene.proxy.metrics_when(0).await.unwrap();
        self.scene.stable[0].play(Play::Answer);
        let answer = self.scene.proxy.infer_pinned("1", "{}").await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.version()), (200, "1"));
        let available = self.scene.proxy.available("1").await.unwrap();
        assert!(available >= 1.0, "its endpoint is charged with nothing");
    }
}

/// A request and the frame that takes it back.
fn taken_back(stream: u32, path: &str) -> Vec<u8> {
    let cancel = 8_u32.to_be_bytes();
    [
        request(stream, WHOLE, path),
        frame(RST_STREAM, 0, stream, &cancel),
    ]
    .concat()
}

/// Numbers of the streams that a client opens.
fn streams(from: u32, count: u32) -> impl Iterator<Item = u32> {
    (from..from + count).map(|number| 2 * number + 1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_taken_back_one_by_one_end_their_connection() {
    let edge = Edge::start().await;
    let mut client = edge.client().await;
    let mut sent = 0;
    while sent < 20_000 {
        // Few enough at a time that each is begun before it is taken back.
        let batch: Vec<u8> = streams(sent, 10)
            .flat_map(|stream| taken_back(stream, &edge.path))
            .collect();
        sent += 10;
        if client.send(&batch).await.is_err() || client.sync().await.is_err() {
            break;
        }
    }
    let heard = client.closed().await.unwrap();
    assert_eq!(heard.goaway, Some(ENHANCE_YOUR_CALM), "{heard:?}");
    assert!((900..3_000).contains(&sent), "closed after {sent}");
    let asked = edge.scene.stable[0].asked();
    assert!(asked <= u64::from(sent), "{asked} of {sent}");
    assert_eq!(edge.given_up("enhance_your_calm").await, 1);
    assert!(edge.grown() < 32 * MIB, "{} bytes more", edge.grown());
    edge.stays_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_taken_back_all_at_once_reach_hardly_an_endpoint() {
    let edge = Edge::start().await;
    let mut client = edge.client().await;
    let all: Vec<u8> = streams(0, 20_000)
        .flat_map(|stream| taken_back(stream, &edge.path))
        .collect();
    // It may well close before it has all.
    let _ = client.send(&all).await;
    let heard = client.closed().await.unwrap();
    assert_eq!(heard.goaway, Some(ENHANCE_YOUR_CALM), "{heard:?}");
    let asked = edge.scene.stable[0].asked();
    assert!(asked < 1_500, "{asked}");
    assert!(edge.grown() < 32 * MIB, "{} bytes more", edge.grown());
    edge.stays_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_back_what_it_has_asked_now_and_then_is_served_on() {
    let edge = Edge::start().await;
    let mut client = edge.client().await;
    // All that it may have at once, some times over, as when those behind a proxy leave together.
    for round in 0..4 {
        let all: Vec<u8> = streams(round * 100, 100)
            .flat_map(|stream| taken_back(stream, &edge.path))
            .collect();
        client.send(&all).await.unwrap();
        client.sync().await.unwrap();
    }
    client.send(&request(999, WHOLE, &edge.path)).await.unwrap();
    until("its answer", async || {
        let heard = client.heard();
        ensure!(heard.answers.contains(&(999, OK)), "{heard:?}");
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(client.heard().goaway, None);
    edge.stays_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_block_without_an_end_ends_its_connection() {
    let edge = Edge::start().await;
    for part in [0, 1, 1_024, 16_384] {
        let mut client = edge.client().await;
        let start = frame(HEADERS, END_STREAM, 1, &request_block(&edge.path));
        client.send(&start).await.unwrap();
        // Without an index: the same field again and again, and cut anywhere.
        let more = frame(CONTINUATION, 0, 1, &vec![0; part]).repeat(16);
        let flooded = client.flood(&more).await;
        assert!(flooded.is_ok(), "parts of {part}: {flooded:?}");
        let heard = client.closed().await.unwrap();
        assert!(heard.answers.is_empty(), "parts of {part}: {heard:?}");
    }
    assert_eq!(edge.scene.stable[0].asked(), 0);
    assert!(edge.grown() < 32 * MIB, "{} bytes more", edge.grown());
    edge.stays_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_carry_nothing_end_their_connection() {
    let edge = Edge::start().await;
    let window = [0, 4, 0, 0, 0xff, 0xff];
    let kinds = [
        ("PING", frame(PING, 0, 0, &[0; 8])),
        ("answers to no PING", frame(PING, ACK, 0, &[0; 8])),
        ("SETTINGS", frame(SETTINGS, 0, 0, &window)),
        ("no SETTINGS", frame(SETTINGS, 0, 0, &[])),
        ("PRIORITY", frame(PRIORITY, 0, 3, &[0, 0, 0, 5, 16])),
        ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("no DATA", frame(DATA, 0, 1, &[])),
        ("of a kind that there is not", frame(0xbb, 0, 0, &[0; 16])),
    ];
    let count = u64::try_from(kinds.len()).unwrap();
    for (name, frame) in kinds {
        let mut client = edge.client().await;
        // A request that waits for its body.
        let open = request(1, END_HEADERS, &edge.path);
        client.send(&open).await.unwrap();
        let flooded = client.flood(&frame.repeat(100)).await;
        assert!(flooded.is_ok(), "{name}: {flooded:?}");
        let heard = client.closed().await.unwrap();
        assert_eq!(heard.goaway, Some(ENHANCE_YOUR_CALM), "{name}: {heard:?}");
    }
    assert_eq!(edge.given_up("enhance_your_calm").await, count);
    let log = edge.scene.proxy.process.stderr();
    assert!(log.lines().count() < 5_000, "it filled the log");
    assert!(edge.grown() < 32 * MIB, "{} bytes more", edge.grown());
    edge.stays_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_streams_are_no_more_than_there_may_be() {
    // What hangs is meant to.
    let edge = Edge::with(|proxy| proxy.set_model("breaker.enforce", false)).await;
    edge.scene.stable[0].play(Play::Hang);
    let mut client = edge.client().await;
    for stream in streams(0, 5_000) {
        if client
            .send(&request(stream, WHOLE, &edge.path))
            .await
            .is_err()
        {
            break;
        }
    }
    until("the refusals", async || {
        let heard = client.heard();
        let refused = heard.resets.iter().filter(|(_, error)| *error == 7).count();
        ensure!(
            refused >= 1_000 || heard.goaway.is_some(),
            "{refused} refused"
        );
        Ok(())
    })
    .await
    .unwrap();
    let asked = edge.scene.stable[0].asked();
    assert!(asked <= 100, "{asked} at once");
    assert!(edge.grown() < 32 * MIB, "{} bytes more", edge.grown());
    drop(client);
    edge.stays_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_that_is_kept_and_repeated_is_refused_before_it_unfolds() {
    let edge = Edge::start().await;
    let mut client = edge.client().await;
    let mut bomb = request_block(&edge.path);
    field(&mut bomb, b"x", &[b'y'; 3_900], true);
    // The newest entry of the table, again and again: 4 KiB a byte, 46 MiB a stream.
    bomb.extend([0xbe; 12_000]);
    for stream in streams(0, 100) {
        if client
            .send(&frame(HEADERS, WHOLE, stream, &bomb))
            .await
            .is_err()
        {
            break;
        }
    }
    until("every stream to be refused", async || {
        let heard = client.heard();
        let done = heard.answers.len().max(heard.resets.len());
        ensure!(done >= 100 || heard.closed, "{done} are done");
        Ok(())
    })
    .await
    .unwrap();
    let heard = client.heard();
    assert!(
        heard.answers.iter().all(|(_, status)| *status != OK),
        "{heard:?}"
    );
    assert_eq!(edge.scene.stable[0].asked(), 0);
    assert!(edge.grown() < 32 * MIB, "{} bytes more", edge.grown());
    edge.stays_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_wait_for_each_other_wait_for_nothing() {
    let edge = Edge::start().await;
    let mut client = edge.client().await;
    for stream in streams(1, 100) {
        // Each depends on the next alone, and the last on the first.
        let on = if stream == 201 { 3 } else { stream + 2 };
        let depends = [&(on | 0x8000_0000_u32).to_be_bytes()[..], &[255]].concat();
        client
            .send(&frame(PRIORITY, 0, stream, &depends))
            .await
            .unwrap();
    }
    let asked = request(301, WHOLE, &edge.path);
    client.send(&asked).await.unwrap();
    until("its answer", async || {
        let heard = client.heard();
        ensure!(heard.answers.contains(&(301, OK)), "{heard:?}");
        Ok(())
    })
    .await
    .unwrap();
    edge.stays_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_that_make_no_sense_end_their_connection() {
    let edge = Edge::start().await;
    let most = 0x7fff_ffff_u32.to_be_bytes();
    for (count, nonsense) in (1..).zip([
        frame(WINDOW_UPDATE, 0, 0, &most),
        frame(WINDOW_UPDATE, 0, 0, &[0; 4]),
        frame(WINDOW_UPDATE, 0, 0, &[0; 3]),
        frame(SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0]),
        frame(DATA, 0, 0, b"of no stream"),
        frame(CONTINUATION, 0, 1, b"of nothing"),
    ]) {
        let mut client = edge.client().await;
        client.send(&nonsense).await.unwrap();
        let heard = client.closed().await.unwrap();
        assert!(
            heard.goaway.is_some_and(|error| error != 0),
            "{nonsense:?}: {heard:?}"
        );
        let metrics = edge.scene.proxy.metrics().await.unwrap();
        assert_eq!(metrics.count(GIVEN_UP, &[]).unwrap(), count, "{nonsense:?}");
    }
    edge.stays_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_without_a_request_do_not_keep_a_connection() {
    let edge = Edge::with(|proxy| proxy.set("limits.keepalive_timeout_ms", 1_000)).await;
    let mut client = edge.client().await;
    let pings = async {
        while client.sync().await.is_ok() {
            // A pace that no budget minds.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, pings).await.unwrap();
    assert_ne!(client.heard().goaway, Some(ENHANCE_YOUR_CALM));
    edge.stays_well().await;
}
