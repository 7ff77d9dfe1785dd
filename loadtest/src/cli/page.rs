//! `--html` and `--scrape`: a run's page.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};

use super::Output;
use crate::report::html::{Page, Verdict};
use crate::scrape::{ScrapeUrl, Scraper};
use crate::timeline::Timeline;
use crate::{Load, Report, clock};

/// What the page is made of, and where it goes.
#[derive(Debug, clap::Args)]
pub(super) struct PageArgs {
    /// Write a page with plots to this file: one HTML file that needs nothing else.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Read the metrics of this server meanwhile, once a second, for queue depth, batch sizes and what changes;
    /// for several, give it several times. `/metrics` is added where there is no path.
    #[arg(long, value_name = "URL", requires = "html")]
    scrape: Vec<ScrapeUrl>,
}

/// A page that is being recorded for.
#[derive(Debug)]
pub(super) struct Recording {
    file: Output,
    timeline: Arc<Timeline>,
    scraper: Scraper,
}

// === impl PageArgs ===

impl PageArgs {
    /// Opens the file, where a page is asked for.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub(super) fn open(&self) -> Result<Option<Output>> {
        Output::open("--html", self.html.as_deref())
    }

    /// Begins to record for the page in that file, where there is one; the load is told to tell.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub(super) fn record(
        &self,
        file: Option<Output>,
        load: Load,
        models: &[String],
    ) -> (Load, Option<Recording>) {
        let Some(file) = file else {
            return (load, None);
        };
        let start = clock::now();
        let timeline = Arc::new(Timeline::new(start));
        let scraper = Scraper::start(&self.scrape, models, start);
        let load = load.with_timeline(Arc::clone(&timeline));
        let recording = Recording {
            file,
            timeline,
            scraper,
        };
        (load, Some(recording))
    }
}

// === impl Recording ===

impl Recording {
    /// Writes the page. What the run does not show at all is said in place of a verdict.
    pub(super) fn write(self, report: &Report, shows: &Result<()>) -> Result<()> {
        let verdict = match shows {
            Ok(()) => Verdict::of(report),
            Err(error) => Verdict::fail(error.to_string()),
        };
        let page = Page {
            report,
            series: &self.timeline.series(clock::now()),
            scraped: &self.scraper.scraped(),
            verdict,
            made: date(),
        };
        let page = page.render().context("--html")?;
        self.file.write(page.as_bytes())
    }
}

/// Now, for people.
pub(super) fn date() -> String {
    let now = jiff::Timestamp::try_from(clock::calendar());
    now.map_or(String::new(), |now| {
        now.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
    })
}
