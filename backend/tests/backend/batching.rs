//! Requests of many clients share batches, and none sees another.

use futures::future::join_all;

use crate::support::{Backend, Client, echo_body, infer};

/// Sums rows, slowly enough that requests meet.
const SUM: &str = r#"
platform = "scripted"
max_batch_size = 8
[[inputs]]
name = "x"
datatype = "FP32"
shape = [-1, 2]
[[outputs]]
name = "y"
datatype = "FP32"
shape = [-1]
[scripted]
answer = "sum"
batch_ms = 5
"#;

#[tokio::test]
async fn clients_share_batches_and_get_their_own_rows() {
    let backend = Backend::ready(&[("sum", SUM)]).await;
    let clients = (0..16_u16).map(|client| {
        let address = backend.address;
        async move {
            let mut connection = Client::connect(address).await;
            for round in 0..10_u16 {
                let rows = [f64::from(client), f64::from(round)];
                let reply = connection.send(infer("sum", echo_body(&rows))).await;
                assert_eq!(reply.output(0), rows.map(|value| 2.0 * value));
            }
        }
    });
    join_all(clients).await;
    let labels = "{model=\"sum\",model_version=\"1\"}";
    let batches = backend
        .metric(&format!("aegis_inference_batch_size_count{labels}"))
        .await;
    let rows = backend
        .metric(&format!("aegis_inference_batch_size_sum{labels}"))
        .await;
    assert!((rows - 320.0).abs() < 0.5, "{rows}");
    assert!(rows / batches > 3.0, "{rows} rows in {batches} batches");
    let seen = backend
        .metric(&format!("aegis_inference_latency_seconds_count{labels}"))
        .await;
    assert!((seen - 160.0).abs() < 0.5, "{seen}");
    let over = "aegis_inference_batch_size_bucket{model=\"sum\",model_version=\"1\",le=\"8\"}";
    assert!(
        (backend.metric(over).await - batches).abs() < 0.5,
        "no batch has more than 8 rows"
    );
}
