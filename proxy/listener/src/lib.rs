//! Closing a TCP listener without resetting anybody.
//!
//! When a listener closes, Linux resets the connections that nobody has accepted: those in its
//! backlog, whose clients have long been told that they are connected, and those whose handshake
//! has one packet to go, whose clients think the same. [`LastCall`] takes both. A packet filter
//! lets no further handshake begin; then connections are accepted until none comes any more.
//!
//! tokio's own `accept` would not do: it goes by the readiness that it saw last, and by its budget,
//! so that it can say that nobody waits while somebody does.

use std::io;
use std::time::Duration;

use socket2::{SockFilter, SockRef};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// How often the backlog may be found empty before it counts as empty. With the pauses between,
/// handshakes that had begun have 5 ms to end: several round trips within a zone. More would not
/// do: who knocks in this time hears nothing, and knocks again after a second.
const LOOKS: u32 = 6;

/// From one such look to the next.
const PAUSE: Duration = Duration::from_millis(1);

/// A packet filter (classic BPF) that drops what opens a connection: of a TCP segment's flags, its
/// fourteenth byte, SYN is set and ACK is not. All else passes, the last packet of a handshake
/// included.
const NO_SYN: [SockFilter; 5] = [
    SockFilter::new(0x30, 0, 0, 13),
    SockFilter::new(0x54, 0, 0, 0x12),
    SockFilter::new(0x15, 0, 1, 0x02),
    SockFilter::new(0x06, 0, 0, 0),
    SockFilter::new(0x06, 0, 0, u32::MAX),
];

/// A listener that is about to close; drop it when [`LastCall::next`] finds nobody.
#[derive(Debug)]
pub struct LastCall<'a> {
    listener: &'a TcpListener,
    looks_left: u32,
}

// === impl LastCall ===

impl<'a> LastCall<'a> {
    /// Lets no further connection begin: who tries from now on hears nothing until the listener is
    /// dropped, and is refused then.
    #[must_use]
    pub fn new(listener: &'a TcpListener) -> Self {
        // It needs no privilege, but a sandbox may forbid it.
        if let Err(error) = SockRef::from(listener).attach_filter(&NO_SYN) {
            tracing::debug!(%error, "who connects while the listener closes may be reset");
        }
        Self {
            listener,
            looks_left: LOOKS,
        }
    }

    /// The next connection that was made before; none when all were taken.
    ///
    /// # Errors
    ///
    /// What the system says, such as that there is no free file descriptor. The connection may
    /// still wait: ask again, after a pause.
    pub async fn next(&mut self) -> io::Result<Option<TcpStream>> {
        loop {
            match SockRef::from(self.listener).accept() {
                Ok((socket, _)) => {
                    socket.set_nonblocking(true)?;
                    // It may have inherited the filter; where it has not, that is as well.
                    let _ = socket.detach_filter();
                    return TcpStream::from_std(socket.into()).map(Some);
                }
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                Err(_nobody) if self.looks_left <= 1 => return Ok(None),
                Err(_nobody) => {
                    self.looks_left -= 1;
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream as StdStream};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;

    use super::*;

    /// How long a client knocks before it knocks anew; the kernel would wait for a second.
    const KNOCK: Duration = Duration::from_millis(100);

    /// What became of a client's connections.
    #[derive(Default)]
    struct Seen {
        answered: usize,
        given_up: usize,
        lost: Vec<io::Error>,
    }

    /// Sends a byte on one connection after the other, and wants it back, until it is refused.
    fn echo_until_refused(address: SocketAddr) -> Seen {
        let mut seen = Seen::default();
        loop {
            let mut client = match StdStream::connect_timeout(&address, KNOCK) {
                Ok(client) => client,
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    seen.given_up += 1;
                    continue;
                }
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{error}");
                    return seen;
                }
            };
            let mut back = [0];
            let echo = client.write_all(b"x");
            match echo.and_then(|()| client.read_exact(&mut back)) {
                Ok(()) => seen.answered += 1,
                Err(error) => seen.lost.push(error),
            }
        }
    }

    fn echo(mut stream: TcpStream) {
        tokio::spawn(async move {
            let mut byte = [0];
            while stream.read_exact(&mut byte).await.is_ok() {
                stream.write_all(&byte).await.unwrap();
            }
        });
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_connects_while_it_closes_is_served_or_refused() {
        for round in 0..40 {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let clients: Vec<_> = (0..8)
                .map(|_| std::thread::spawn(move || echo_until_refused(address)))
                .collect();
            // Closes in the middle of the rush: each client has been here a few times.
            for _ in 0..50 {
                echo(listener.accept().await.unwrap().0);
            }
            let mut last_call = LastCall::new(&listener);
            while let Some(stream) = last_call.next().await.unwrap() {
                echo(stream);
            }
            drop(listener);
            let mut came = 0;
            for client in clients {
                let seen = client.join().unwrap();
                assert!(seen.lost.is_empty(), "round {round}: {:?}", seen.lost);
                came += seen.answered + seen.given_up;
            }
            assert!(came >= 50, "{came}");
        }
    }

    #[tokio::test]
    async fn a_backlog_is_taken_whole_and_newcomers_are_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let waiting: Vec<_> = (0..100)
            .map(|_| StdStream::connect(address).unwrap())
            .collect();
        let mut last_call = LastCall::new(&listener);
        let (told, refused) = oneshot::channel();
        std::thread::spawn(move || told.send(StdStream::connect_timeout(&address, KNOCK).is_err()));
        let mut taken = Vec::new();
        while let Some(stream) = last_call.next().await.unwrap() {
            taken.push(stream.peer_addr().unwrap());
        }
        drop(listener);
        let waited: Vec<_> = waiting.iter().map(|c| c.local_addr().unwrap()).collect();
        assert_eq!(taken, waited);
        assert!(refused.await.unwrap());
    }
}
