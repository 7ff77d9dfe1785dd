//! What one server's metrics said over time, in bounded memory.
//!
//! Names are those of Aegis (`config/METRICS.md`). Of a backend, its queue and its batches; of a proxy, the
//! requests that wait in it. Counters are read as differences between two scrapes; one that fell says that the
//! server was started anew.

use std::collections::BTreeMap;
use std::fmt::Display;

use super::exposition::Exposition;

/// The most polls that are kept: twenty minutes by the second. Then each two neighbours become one.
const MAX_POLLS: usize = 1200;

/// The most changes that are told.
const MAX_CHANGES: usize = 100;

/// A server, as it was seen so far.
#[derive(Debug)]
pub(super) struct Track {
    scraped: Scraped,
    model: String,
    /// Whether it tells what is the server's own, and no model's.
    is_first: bool,
    /// Polls that become one.
    each: u32,
    /// How many of them the last one has.
    last_has: u32,
    before: Option<Before>,
}

/// What a server's metrics said.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Scraped {
    /// Host and port.
    pub(crate) name: String,
    pub(crate) polls: Vec<Poll>,
    pub(crate) changes: Vec<Change>,
    /// Scrapes in all.
    pub(crate) asked: u64,
    /// Those that failed.
    pub(crate) missed: u64,
    /// When the first one failed, and why.
    pub(crate) first_miss: Option<(f64, String)>,
    /// Whether any scrape said something of the model.
    pub(crate) knows_model: bool,
}

/// What it said at one time, in seconds since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Poll {
    pub(crate) at: f64,
    /// Whether there was an answer.
    pub(crate) is_there: bool,
    /// Requests that wait, where it says so.
    pub(crate) queue: Option<f64>,
    /// Batches since the poll before, and the rows in them.
    pub(crate) batches: f64,
    pub(crate) rows: f64,
}

/// Something that changed between two scrapes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Change {
    pub(crate) at: f64,
    pub(crate) text: String,
}

/// What is compared with the next scrape.
#[derive(Clone, Debug, Default, PartialEq)]
struct Before {
    batches: f64,
    rows: f64,
    opened: f64,
    generation: Option<f64>,
    /// By version, whether it is loaded.
    loaded: BTreeMap<String, bool>,
}

// === impl Track ===

impl Track {
    pub(super) fn new(name: String, model: String, is_first: bool) -> Self {
        let scraped = Scraped {
            name,
            ..Scraped::default()
        };
        Self {
            scraped,
            model,
            is_first,
            each: 1,
            last_has: 0,
            before: None,
        }
    }

    pub(super) fn scraped(&self) -> Scraped {
        self.scraped.clone()
    }

    /// Takes a scrape that came at that time.
    pub(super) fn saw(&mut self, at: f64, exposition: &Exposition) {
        let mut now = Before::of(exposition, &self.model);
        now.generation = now.generation.filter(|_| self.is_first);
        let queue = queue(exposition, &self.model);
        self.scraped.knows_model |= queue.is_some();
        let mut poll = Poll {
            at,
            is_there: true,
            queue,
            ..Poll::default()
        };
        if let Some(before) = self.before.take() {
            let is_restarted = now.batches < before.batches || now.opened < before.opened;
            let base = if is_restarted {
                if self.is_first {
                    self.changed(at, "was started anew");
                }
                Before::default()
            } else {
                before.clone()
            };
            poll.batches = now.batches - base.batches;
            poll.rows = now.rows - base.rows;
            for text in now.changes(&before, &base) {
                self.changed(at, &text);
            }
        }
        self.before = Some(now);
        self.push(poll);
    }

    /// Takes a scrape that failed.
    pub(super) fn missed(&mut self, at: f64, why: &dyn Display) {
        self.scraped.missed += 1;
        let first = || (at, aegis_protocol::excerpt(&why.to_string()).to_string());
        self.scraped.first_miss.get_or_insert_with(first);
        self.push(Poll {
            at,
            ..Poll::default()
        });
    }

    fn changed(&mut self, at: f64, text: &str) {
        if self.scraped.changes.len() < MAX_CHANGES {
            let text = format!("{} {text}", self.scraped.name);
            self.scraped.changes.push(Change { at, text });
        }
    }

    fn push(&mut self, poll: Poll) {
        self.scraped.asked += 1;
        if self.last_has > 0 && self.last_has < self.each {
            self.last_has += 1;
            if let Some(last) = self.scraped.polls.last_mut() {
                last.absorb(&poll);
            }
            return;
        }
        if self.scraped.polls.len() == MAX_POLLS {
            self.halve();
        }
        self.scraped.polls.push(poll);
        self.last_has = 1;
    }

    fn halve(&mut self) {
        let mut polls = std::mem::take(&mut self.scraped.polls).into_iter();
        while let Some(mut poll) = polls.next() {
            if let Some(next) = polls.next() {
                poll.absorb(&next);
            }
            self.scraped.polls.push(poll);
        }
        self.each *= 2;
    }
}

/// Requests that wait: in a backend's queues, or in a proxy's. What a proxy has sent to backends is not among
/// them; they say so themselves.
fn queue(exposition: &Exposition, model: &str) -> Option<f64> {
    let labels = [("model", model)];
    let backend = exposition.of("aegis_inference_queue_depth", &labels);
    let backend = backend.filter(|metric| metric.label("via").is_none());
    let proxy = exposition.of("aegis_proxy_queued", &labels);
    let mut waiting = backend.chain(proxy).map(|metric| metric.value).peekable();
    waiting.peek()?;
    Some(waiting.sum())
}

// === impl Poll ===

impl Poll {
    /// Rows of a batch, on average; none where there was no batch.
    pub(crate) fn batch_size(&self) -> Option<f64> {
        (self.batches > 0.0).then(|| self.rows / self.batches)
    }

    /// Becomes what stands for both: the deepest queue, and all batches.
    fn absorb(&mut self, next: &Self) {
        self.is_there &= next.is_there;
        self.queue = match (self.queue, next.queue) {
            (Some(one), Some(other)) => Some(one.max(other)),
            (one, other) => one.or(other),
        };
        self.batches += next.batches;
        self.rows += next.rows;
    }
}

// === impl Before ===

impl Before {
    fn of(exposition: &Exposition, model: &str) -> Self {
        let labels = [("model", model)];
        let sum = |name| exposition.sum(name, &labels).unwrap_or(0.0);
        let opened = exposition.sum(
            "aegis_proxy_breaker_transitions_total",
            &[("model", model), ("to", "open")],
        );
        let loaded = exposition.of("aegis_model_loaded", &labels);
        let loaded = loaded.filter_map(|metric| {
            let version = metric.label("model_version")?;
            Some((version.to_owned(), metric.value > 0.0))
        });
        Self {
            batches: sum("aegis_inference_batch_size_count"),
            rows: sum("aegis_inference_batch_size_sum"),
            opened: opened.unwrap_or(0.0),
            generation: exposition.sum("aegis_proxy_config_generation", &[]),
            loaded: loaded.collect(),
        }
    }

    /// What is different from before; counters are compared with `base`.
    fn changes(&self, before: &Self, base: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        let opened = self.opened - base.opened;
        if opened > 0.0 {
            let plural = if opened > 1.0 { "s" } else { "" };
            changes.push(format!("opened {opened} circuit breaker{plural}"));
        }
        if let Some(generation) = self.generation
            && self.generation != before.generation
        {
            changes.push(format!("has configuration {generation}"));
        }
        for (version, is_loaded) in &self.loaded {
            if before.loaded.get(version) != Some(is_loaded) {
                let what = if *is_loaded { "loaded" } else { "lost" };
                changes.push(format!("{what} version {version}"));
            }
        }
        let gone = before.loaded.keys();
        let gone = gone.filter(|version| !self.loaded.contains_key(*version));
        changes.extend(gone.map(|version| format!("unloaded version {version}")));
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(queue: u32, batches: u32, rows: u32) -> String {
        format!(
            "aegis_inference_queue_depth{{model=\"m\",model_version=\"1\"}} {queue}\n\
             aegis_inference_queue_depth{{model=\"other\",model_version=\"1\"}} 900\n\
             aegis_inference_batch_size_count{{model=\"m\",model_version=\"1\"}} {batches}\n\
             aegis_inference_batch_size_sum{{model=\"m\",model_version=\"1\"}} {rows}\n\
             aegis_model_loaded{{model=\"m\",model_version=\"1\"}} 1\n"
        )
    }

    fn track(texts: &[Option<String>]) -> Scraped {
        let mut track = Track::new("h:1".to_owned(), "m".to_owned(), true);
        for (second, text) in texts.iter().enumerate() {
            match text {
                Some(text) => track.saw(second as f64, &Exposition::parse(text).unwrap()),
                None => track.missed(second as f64, &"no answer"),
            }
        }
        track.scraped()
    }

    #[test]
    fn batches_are_what_came_between_two_scrapes() {
        let scraped = track(&[
            Some(text(3, 10, 50)),
            Some(text(0, 12, 66)),
            Some(text(0, 12, 66)),
        ]);
        let sizes: Vec<_> = scraped.polls.iter().map(Poll::batch_size).collect();
        assert_eq!(sizes, [None, Some(8.0), None]);
        let queues: Vec<_> = scraped.polls.iter().map(|poll| poll.queue).collect();
        assert_eq!(queues, [Some(3.0), Some(0.0), Some(0.0)]);
        assert_eq!(scraped.changes, []);
        assert!(scraped.knows_model);
    }

    #[test]
    fn a_scrape_that_fails_is_a_gap_and_is_told() {
        let scraped = track(&[Some(text(0, 1, 1)), None, None, Some(text(0, 3, 9))]);
        let there: Vec<_> = scraped.polls.iter().map(|poll| poll.is_there).collect();
        assert_eq!(there, [true, false, false, true]);
        assert_eq!((scraped.asked, scraped.missed), (4, 2));
        assert_eq!(scraped.first_miss, Some((1.0, "no answer".to_owned())));
        assert_eq!(scraped.polls[3].batch_size(), Some(4.0), "over the gap");
    }

    #[test]
    fn a_counter_that_fell_is_a_restart_and_no_negative_batch() {
        let scraped = track(&[Some(text(0, 100, 400)), Some(text(0, 2, 6))]);
        assert_eq!(scraped.polls[1].batch_size(), Some(3.0));
        assert_eq!(scraped.changes[0].text, "h:1 was started anew");
    }

    #[test]
    fn what_changes_is_told_with_its_time() {
        let one = "aegis_proxy_config_generation 1\n\
                   aegis_proxy_queued{model=\"m\"} 5\n\
                   aegis_inference_queue_depth{model=\"m\",via=\"proxy\"} 70\n\
                   aegis_model_loaded{model=\"m\",model_version=\"1\"} 1\n";
        let two = "aegis_proxy_config_generation 2\n\
                   aegis_proxy_breaker_transitions_total{model=\"m\",to=\"open\"} 2\n\
                   aegis_model_loaded{model=\"m\",model_version=\"2\"} 1\n";
        let scraped = track(&[Some(one.to_owned()), Some(two.to_owned())]);
        assert_eq!(
            scraped.polls[0].queue,
            Some(5.0),
            "what waits in the proxy only"
        );
        let changes: Vec<_> = scraped.changes.iter().map(|change| &*change.text).collect();
        let expected = [
            "h:1 opened 2 circuit breakers",
            "h:1 has configuration 2",
            "h:1 loaded version 2",
            "h:1 unloaded version 1",
        ];
        assert_eq!(changes, expected);
        assert!(scraped.changes.iter().all(|change| change.at > 0.5));
    }

    #[test]
    fn a_long_run_keeps_the_deepest_queues_and_every_batch() {
        let texts: Vec<_> = (0..5000)
            .map(|second| Some(text(second, second, 2 * second)))
            .collect();
        let scraped = track(&texts);
        assert!(scraped.polls.len() <= MAX_POLLS, "{}", scraped.polls.len());
        let rows: f64 = scraped.polls.iter().map(|poll| poll.rows).sum();
        assert!((rows - 2.0 * 4999.0).abs() < 1e-9, "{rows}");
        let deepest = scraped
            .polls
            .iter()
            .filter_map(|poll| poll.queue)
            .fold(0.0, f64::max);
        assert!((deepest - 4999.0).abs() < 1e-9, "{deepest}");
    }
}
