//! The last lines that a process wrote.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::oneshot;

/// Lines kept; what came before is dropped and counted.
const MAX_LINES: usize = 400;
/// Bytes kept of one line.
const MAX_LINE: usize = 8 * 1024;

/// The end of a process's output, shared with the task that reads it.
#[derive(Clone, Debug, Default)]
pub(super) struct Tail {
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<String>,
    dropped: usize,
}

// === impl Tail ===

impl Tail {
    /// Reads `stream` to its end; the first line is also sent on its own.
    pub(super) async fn read(
        self,
        stream: impl AsyncRead + Unpin,
        first: Option<oneshot::Sender<String>>,
    ) {
        let mut first = first;
        let mut lines = BufReader::new(stream).split(b'\n');
        while let Ok(Some(line)) = lines.next_segment().await {
            let end = line.len().min(MAX_LINE);
            let line = String::from_utf8_lossy(&line[..end]).into_owned();
            if let Some(first) = first.take() {
                // Nobody listens any more when the process was dropped early.
                let _ = first.send(line.clone());
            }
            self.push(line);
        }
    }

    fn push(&self, line: String) {
        let mut kept = self.kept.lock();
        if kept.lines.len() == MAX_LINES {
            kept.lines.pop_front();
            kept.dropped += 1;
        }
        kept.lines.push_back(line);
    }

    /// What was kept, as text; says how much is missing before it.
    pub(super) fn text(&self) -> String {
        let kept = self.kept.lock();
        let mut text = String::new();
        if kept.dropped > 0 {
            text = format!("[{} lines before these]\n", kept.dropped);
        }
        for line in &kept.lines {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    /// The last `count` lines.
    pub(super) fn last(&self, count: usize) -> Vec<String> {
        let kept = self.kept.lock();
        kept.lines
            .iter()
            .skip(kept.lines.len().saturating_sub(count))
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keeps_the_last_lines_and_says_how_many_it_dropped() {
        let lines: Vec<String> = (0..MAX_LINES + 3).map(|n| format!("line {n}")).collect();
        let text = lines.join("\n");
        let (sender, first) = oneshot::channel();
        let tail = Tail::default();
        tail.clone().read(text.as_bytes(), Some(sender)).await;
        assert_eq!(first.await.unwrap(), "line 0");
        assert!(
            tail.text().starts_with("[3 lines before these]\nline 3\n"),
            "{}",
            tail.text()
        );
        assert_eq!(tail.last(1), ["line 402"]);
    }
}
