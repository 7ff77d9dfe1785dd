//! A name server inside the test, whose answers change on cue.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::Result;
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType};
use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// How long an answer says that it holds, in seconds: a proxy asks again after its least TTL.
const TTL: u32 = 0;

/// A running name server; it ends when this is dropped.
#[derive(Debug)]
pub struct NameServer {
    address: SocketAddr,
    script: Arc<Mutex<Script>>,
    answering: JoinHandle<()>,
}

/// What a name server says of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Zone {
    /// These addresses; maybe none.
    Addresses(Vec<IpAddr>),
    /// SERVFAIL.
    Failure,
    /// Nothing at all.
    Silence,
}

#[derive(Debug, Default)]
struct Script {
    /// What is not here is NXDOMAIN.
    zones: HashMap<String, Zone>,
    /// Questions for A records, by name.
    asked: HashMap<String, u64>,
}

// === impl NameServer ===

impl NameServer {
    /// Starts one that knows no name.
    ///
    /// # Errors
    ///
    /// When there is no free port.
    pub async fn start() -> Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        let address = socket.local_addr()?;
        let script = Arc::<Mutex<Script>>::default();
        let answering = tokio::spawn(answer_all(socket, Arc::clone(&script)));
        Ok(Self {
            address,
            script,
            answering,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it says of a name from now on.
    pub fn set(&self, name: &str, zone: Zone) {
        self.script.lock().zones.insert(name.to_owned(), zone);
    }

    /// From now on it does not know the name.
    pub fn remove(&self, name: &str) {
        self.script.lock().zones.remove(name);
    }

    /// How often it was asked for the IPv4 addresses of a name.
    #[must_use]
    pub fn asked(&self, name: &str) -> u64 {
        let script = self.script.lock();
        script.asked.get(name).copied().unwrap_or_default()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.answering.abort();
    }
}

async fn answer_all(socket: UdpSocket, script: Arc<Mutex<Script>>) {
    let mut buffer = [0; 4_096];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let answer = Message::from_vec(&buffer[..length])
            .ok()
            .and_then(|question| script.lock().answer(&question));
        if let Some(bytes) = answer.and_then(|answer| answer.to_vec().ok()) {
            // Who asked may be gone.
            let _ = socket.send_to(&bytes, from).await;
        }
    }
}

// === impl Script ===

impl Script {
    fn answer(&mut self, question: &Message) -> Option<Message> {
        let query = question.queries.first()?;
        let name = query.name().to_lowercase().to_utf8();
        let name = name.trim_end_matches('.').to_owned();
        if query.query_type() == RecordType::A {
            *self.asked.entry(name.clone()).or_default() += 1;
        }
        let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
        answer.metadata.recursion_available = true;
        answer.add_query(query.clone());
        match self.zones.get(&name) {
            None => answer.metadata.response_code = ResponseCode::NXDomain,
            Some(Zone::Failure) => answer.metadata.response_code = ResponseCode::ServFail,
            Some(Zone::Silence) => return None,
            Some(Zone::Addresses(addresses)) => {
                answer.add_answers(addresses.iter().filter_map(|ip| record(query, *ip)));
            }
        }
        Some(answer)
    }
}

/// A record that answers the query, if the address is of the kind that it asks for.
fn record(query: &Query, address: IpAddr) -> Option<Record> {
    let data = match (address, query.query_type()) {
        (IpAddr::V4(address), RecordType::A) => RData::A(address.into()),
        (IpAddr::V6(address), RecordType::AAAA) => RData::AAAA(address.into()),
        _ => return None,
    };
    Some(Record::from_rdata(query.name().clone(), TTL, data))
}
