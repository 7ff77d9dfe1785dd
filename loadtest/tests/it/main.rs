//! The load generator against a server in the same process, and as a program.

mod cli;
mod closed;
mod compare;
mod counting;
mod failures;
mod inputs;
mod merging;
mod omission;
mod page;
mod profiles;
mod schedule;
mod server;
mod slo;

use std::sync::Arc;
use std::time::Duration;

use aegis_loadtest::{Dataset, Rate, Target};
use tokio::net::TcpSocket;

/// Ten examples: a feature, and the same as label.
const DIGITS: &str = "0,0\n1,1\n2,2\n3,3\n4,4\n5,5\n6,6\n7,7\n8,8\n9,9\n";

/// Ten examples whose label is their one feature, so that a server can be right.
fn digits() -> Arc<Dataset> {
    Arc::new(Dataset::from_reader("digits.csv".as_ref(), DIGITS.as_bytes()).expect("ten examples"))
}

fn target(url: &str) -> Target {
    Target::new(url, "digits").expect("an address")
}

fn rate(per_second: f64) -> Rate {
    Rate::new(per_second).expect("a rate")
}

/// An address that refuses connections for as long as the socket lives: its port
/// is taken, and nobody listens.
fn closed_port() -> (TcpSocket, String) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .bind("127.0.0.1:0".parse().expect("an address"))
        .expect("a free port");
    let url = format!("http://{}", socket.local_addr().expect("a bound address"));
    (socket, url)
}

/// Waits for a condition, and fails loudly where it never comes.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), wait).await;
    waited.unwrap_or_else(|_| panic!("waited 30 s until {what}"));
}
