//! Log lines, to stderr: for people, or one JSON object a line. Those of the audit are
//! written whatever the level is.

use std::{env, io};

use tracing_subscriber::{EnvFilter, filter::Directive};

use crate::{audit, config::LogFormat};

/// What is logged when `RUST_LOG` does not say.
const DEFAULT_FILTER: &str = "info";

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

/// What is logged when `RUST_LOG` says this. Who wants less of the audit has to name it.
fn filter(wanted: &str) -> EnvFilter {
    let filter = match wanted {
        "" => EnvFilter::new(DEFAULT_FILTER),
        wanted => EnvFilter::try_new(wanted).unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER)),
    };
    let audit = format!("{}={DEFAULT_FILTER}", audit::TARGET);
    match audit.parse::<Directive>() {
        Ok(audit) if !wanted.contains(audit::TARGET) => filter.add_directive(audit),
        _ => filter,
    }
}

#[cfg(test)]
mod tests {
    use super::filter;

    #[test]
    fn the_audit_is_written_unless_it_is_named() {
        for (wanted, filtered) in [
            ("", "audit=info,info"),
            ("error", "audit=info,error"),
            ("proxy=loudly", "audit=info,info"),
            ("audit=off,warn", "audit=off,warn"),
        ] {
            assert_eq!(filter(wanted).to_string(), filtered, "{wanted:?}");
        }
    }
}
