//! Log lines, to stderr: for people, or one JSON object a line. Those of the audit are
//! written whatever the level is. What kube-client says of each request that fails is not,
//! unless it is asked for by name: that a service cannot be watched is said once here, and
//! not with every try.

use std::{env, io};

use tracing_subscriber::{EnvFilter, filter::Directive};

use crate::{audit, config::LogFormat};

/// What is logged when `RUST_LOG` does not say.
const DEFAULT_FILTER: &str = "info";
/// Who logs every failed request as an error.
const NOISY: &str = "kube_client";

/// Starts logging; a second call changes nothing.
pub fn init(format: LogFormat) {
    let filter = filter(&env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default());
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()));
    let _ = match format {
        LogFormat::Text => logs.try_init(),
        LogFormat::Json => logs.json().try_init(),
    };
}

/// What is logged when `RUST_LOG` says this. Who wants less of the audit, or more of
/// kube-client, has to name it.
fn filter(wanted: &str) -> EnvFilter {
    let filter = match wanted {
        "" => EnvFilter::new(DEFAULT_FILTER),
        wanted => EnvFilter::try_new(wanted).unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER)),
    };
    [(audit::TARGET, DEFAULT_FILTER), (NOISY, "off")]
        .into_iter()
        .filter(|(target, _)| !wanted.contains(target))
        .filter_map(|(target, level)| format!("{target}={level}").parse::<Directive>().ok())
        .fold(filter, EnvFilter::add_directive)
}

#[cfg(test)]
mod tests {
    use super::filter;

    #[test]
    fn the_audit_is_written_unless_it_is_named() {
        for (wanted, filtered) in [
            ("", "kube_client=off,audit=info,info"),
            ("error", "kube_client=off,audit=info,error"),
            ("proxy=loudly", "kube_client=off,audit=info,info"),
            ("audit=off,warn", "kube_client=off,audit=off,warn"),
            (
                "kube_client=debug,warn",
                "kube_client=debug,audit=info,warn",
            ),
        ] {
            assert_eq!(filter(wanted).to_string(), filtered, "{wanted:?}");
        }
    }
}
