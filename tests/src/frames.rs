//! Frames of HTTP/2 over a bare socket, for what no HTTP library would send.
//!
//! [`FrameClient`] sends what it is given and notes what comes back: it neither acknowledges nor
//! limits anything by itself. Header blocks are written without compression, unless a test asks
//! for what the other side keeps.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::wait::{PATIENCE, until};

/// Types of frames (RFC 9113, 6).
pub const DATA: u8 = 0;
/// Begins a stream, or ends it.
pub const HEADERS: u8 = 1;
/// Long without a meaning.
pub const PRIORITY: u8 = 2;
/// Takes a stream back.
pub const RST_STREAM: u8 = 3;
/// What the other side should know first, and may be told again.
pub const SETTINGS: u8 = 4;
/// Wants to come back.
pub const PING: u8 = 6;
/// The end of the connection.
pub const GOAWAY: u8 = 7;
/// More may be sent.
pub const WINDOW_UPDATE: u8 = 8;
/// More of a header block.
pub const CONTINUATION: u8 = 9;

/// Flag of SETTINGS and PING: it answers one.
pub const ACK: u8 = 1;
/// Flag of HEADERS and DATA: the stream's last.
pub const END_STREAM: u8 = 1;
/// Flag of HEADERS and CONTINUATION: the block's last.
pub const END_HEADERS: u8 = 4;

/// The other side has had enough.
pub const ENHANCE_YOUR_CALM: u32 = 0xb;

/// Bytes of a flood at the most.
const FLOOD: usize = 128 << 20;

/// A connection that sends frames.
#[derive(Debug)]
pub struct FrameClient {
    write: OwnedWriteHalf,
    heard: Arc<Mutex<Returned>>,
    reading: JoinHandle<()>,
}

/// What came back.
#[derive(Clone, Debug, Default)]
pub struct Returned {
    /// PINGs that were answered.
    pub pongs: u64,
    /// Header blocks, by their first byte, of streams in the order in which they were answered.
    pub answers: Vec<(u32, u8)>,
    /// Streams that were reset, and with which error.
    pub resets: Vec<(u32, u32)>,
    /// The error of the last GOAWAY.
    pub goaway: Option<u32>,
    /// The other side has closed.
    pub closed: bool,
}

/// A frame.
#[must_use]
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let [_, length @ ..] = length.to_be_bytes();
    let head = [&length[..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head, payload].concat()
}

/// A frame that begins a request, with its end where `flags` say so.
#[must_use]
pub fn request(stream: u32, flags: u8, path: &str) -> Vec<u8> {
    frame(HEADERS, flags, stream, &request_block(path))
}

/// The block of a POST.
#[must_use]
pub fn request_block(path: &str) -> Vec<u8> {
    // `:method: POST`, `:scheme: http` and the names of `:path` and `:authority` are known.
    let mut block = vec![0x83, 0x86, 0x04];
    string(&mut block, path.as_bytes());
    block.push(0x01);
    string(&mut block, b"test");
    block
}

/// A field that the other side is asked to keep, where `kept`.
pub fn field(block: &mut Vec<u8>, name: &[u8], value: &[u8], kept: bool) {
    block.push(if kept { 0x40 } else { 0 });
    string(block, name);
    string(block, value);
}

/// Text with its length in 7 bits and more (RFC 7541, 5.1).
fn string(block: &mut Vec<u8>, text: &[u8]) {
    let mut length = text.len();
    if length < 0x7f {
        block.extend(u8::try_from(length));
    } else {
        block.push(0x7f);
        length -= 0x7f;
        while length >= 0x80 {
            block.extend(u8::try_from(length % 0x80 + 0x80));
            length /= 0x80;
        }
        block.extend(u8::try_from(length));
    }
    block.extend_from_slice(text);
}

// === impl FrameClient ===

impl FrameClient {
    /// Begins a connection with these settings, and reads what comes back.
    ///
    /// # Errors
    ///
    /// When there is no connection.
    pub async fn open(at: SocketAddr, settings: &[(u16, u32)]) -> Result<Self> {
        let (read, write) = begin(at, settings).await?;
        let returned = Arc::new(Mutex::default());
        let heard = Arc::clone(&returned);
        let reading = tokio::spawn(async move {
            // It ends with the connection, by a reset, too.
            let _ = listen(read, &returned).await;
            returned.lock().closed = true;
        });
        Ok(Self {
            write,
            heard,
            reading,
        })
    }

    /// Sends bytes.
    ///
    /// # Errors
    ///
    /// When the other side has closed, or does not read for [`PATIENCE`].
    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        timeout(PATIENCE, self.write.write_all(bytes))
            .await
            .context("it does not read")?
            .context("it has closed")
    }

    /// Sends the same bytes again and again until the other side has had enough: it says so, or
    /// closes.
    ///
    /// # Errors
    ///
    /// When it takes 128 MiB, which is more than the kernel keeps for both.
    pub async fn flood(&mut self, bytes: &[u8]) -> Result<()> {
        for _ in 0..FLOOD.div_ceil(bytes.len().max(1)) {
            let heard = self.heard();
            let stopped = heard.closed || heard.goaway.is_some();
            if stopped || self.send(bytes).await.is_err() {
                return Ok(());
            }
        }
        bail!("it took all")
    }

    /// Waits until all that was sent has been read: a PING comes back.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub async fn sync(&mut self) -> Result<()> {
        let before = self.heard().pongs;
        self.send(&frame(PING, 0, 0, b"are you?")).await?;
        until("a PING to come back", async || {
            let heard = self.heard();
            if heard.closed {
                return Ok(false);
            }
            ensure!(heard.pongs > before);
            Ok(true)
        })
        .await?
        .then_some(())
        .context("it has closed")
    }

    /// What came back so far.
    #[must_use]
    pub fn heard(&self) -> Returned {
        self.heard.lock().clone()
    }

    /// Waits until the other side has closed.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub async fn closed(&self) -> Result<Returned> {
        until("the connection's end", async || {
            let heard = self.heard();
            ensure!(heard.closed, "{} answers", heard.answers.len());
            Ok(heard)
        })
        .await
    }
}

impl Drop for FrameClient {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

/// Connects, and sends what every connection begins with.
async fn begin(at: SocketAddr, settings: &[(u16, u32)]) -> Result<(OwnedReadHalf, OwnedWriteHalf)> {
    let stream = TcpStream::connect(at).await?;
    stream.set_nodelay(true)?;
    let (read, mut write) = stream.into_split();
    let entry =
        |(number, value): &(u16, u32)| [&number.to_be_bytes()[..], &value.to_be_bytes()].concat();
    let settings: Vec<u8> = settings.iter().flat_map(entry).collect();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let start = [&preface[..], &frame(SETTINGS, 0, 0, &settings)].concat();
    write.write_all(&start).await?;
    Ok((read, write))
}

/// Reads frames until the connection ends.
async fn listen(mut read: OwnedReadHalf, returned: &Mutex<Returned>) -> Result<()> {
    loop {
        let mut start = [0; 9];
        read.read_exact(&mut start).await?;
        let [l0, l1, l2, kind, flags, stream @ ..] = start;
        let mut payload = vec![0; u32::from_be_bytes([0, l0, l1, l2]) as usize];
        read.read_exact(&mut payload).await?;
        let stream = u32::from_be_bytes(stream);
        let number = |at: usize| {
            let bytes = payload.get(at..at + 4)?.try_into().ok()?;
            Some(u32::from_be_bytes(bytes))
        };
        let mut heard = returned.lock();
        match kind {
            HEADERS => {
                let first = payload.first().copied().unwrap_or_default();
                heard.answers.push((stream, first));
            }
            RST_STREAM => heard.resets.extend(number(0).map(|error| (stream, error))),
            PING if flags & ACK != 0 => heard.pongs += 1,
            GOAWAY => heard.goaway = number(4),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_and_the_lengths_in_it_are_as_the_standards_say() {
        assert_eq!(
            frame(HEADERS, END_HEADERS, 3, &[9; 258])[..10],
            [0, 1, 2, 1, 4, 0, 0, 0, 3, 9]
        );
        let mut block = Vec::new();
        field(&mut block, b"a", &[b'x'; 1337 + 96], true);
        // RFC 7541, C.1.2: 1337 in five bits is 31, 154, 10; of 1433 in seven, 127 are first.
        assert_eq!(block[..6], [0x40, 1, b'a', 0x7f, 0x9a, 0x0a]);
    }
}
