//! `aegis-proxy simulate`: tries a configuration on a scenario before it ships.
//!
//! The work is `aegis-simulator`'s; this turns a model of the configuration into
//! what that takes, and its report into a table, JSON and a plot.

use std::{
    fmt::Write as _,
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use aegis_config::Rejected;
use aegis_simulator::{
    Report, Scenario, Setup, plot,
    scenario::{BUILTIN, Builtin},
    setup::{Place, Version},
};

use crate::{
    clock,
    config::{self, Config, Model, Name},
};

/// Addresses of host names and services begin after this: a network that is there to be tested
/// with (RFC 2544).
const MADE_UP: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
/// And those of services, whose ports have only names, are at this.
const MADE_UP_PORT: u16 = 8000;

/// What to try.
#[derive(Debug, clap::Args)]
pub struct Simulate {
    /// The configuration, a TOML file.
    #[arg(long, required_unless_present = "list")]
    config: Option<PathBuf>,
    /// Which of its models; needed where it has several.
    #[arg(long)]
    model: Option<String>,
    /// A scenario that is built in (see --list), or a TOML file.
    #[arg(long, required_unless_present = "list")]
    scenario: Option<String>,
    /// Repeats a simulation to the last byte.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where a plot is drawn, an SVG file.
    #[arg(long)]
    plot: Option<PathBuf>,
    /// Where the figures are written as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// List the scenarios that are built in.
    #[arg(long, conflicts_with_all = ["config", "scenario"])]
    list: bool,
}

/// Why nothing was simulated.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// The configuration or the scenario has faults. Their author's to mend.
    #[error("{0}")]
    Rejected(#[from] Rejected),
    /// There is no such model, or none was named of several.
    #[error("expected --model with one of: {known}")]
    Model {
        /// Those that there are.
        known: String,
    },
    /// The scenario does not fit the configuration.
    #[error("{scenario}: {source}")]
    Run {
        /// Which.
        scenario: String,
        /// What does not fit.
        source: aegis_simulator::RunError,
    },
    /// A result could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A plot could not be drawn.
    #[error("cannot draw: {0}")]
    Plot(#[from] plot::PlotError),
}

// === impl SimulateError ===

impl SimulateError {
    /// The exit code: 64 for a model that is not there, 78 for faults in a file, 1
    /// for the rest.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Model { .. } => 64,
            Self::Rejected(_) | Self::Run { .. } => 78,
            Self::Write { .. } | Self::Plot(_) => 1,
        }
    }
}

// === impl Simulate ===

impl Simulate {
    /// Runs it; the text for stdout, and whether all that was expected came true.
    ///
    /// # Errors
    /// [`SimulateError`].
    pub fn run(&self) -> Result<(String, bool), SimulateError> {
        let (Some(file), Some(scenario)) = (&self.config, &self.scenario) else {
            return Ok((list(), true));
        };
        let config = read(file, config::parse)?;
        let (name, model) = self.model(&config)?;
        let what = match BUILTIN.iter().find(|builtin| builtin.name == *scenario) {
            Some(Builtin { name, text }) => Scenario::parse(name, text)?,
            None => read(Path::new(scenario), Scenario::parse)?,
        };
        let setup = setup(name, model);
        let report = aegis_simulator::run(&setup, &what, self.seed, clock::now());
        let report = report.map_err(|source| SimulateError::Run {
            scenario: scenario.clone(),
            source,
        })?;
        self.write(&report)?;
        Ok((
            report.to_string().trim_end().to_owned(),
            report.missed.is_empty(),
        ))
    }

    fn model<'a>(&self, config: &'a Config) -> Result<(&'a Name, &'a Model), SimulateError> {
        let mut models = config.models.iter();
        let found = match &self.model {
            Some(wanted) => models.find(|(name, _)| ***name == **wanted),
            None => models.next().filter(|_| config.models.len() == 1),
        };
        found.ok_or_else(|| {
            let known: Vec<String> = config.models.keys().map(ToString::to_string).collect();
            SimulateError::Model {
                known: known.join(", "),
            }
        })
    }

    fn write(&self, report: &Report) -> Result<(), SimulateError> {
        if let Some(path) = &self.json {
            let json = serde_json::to_vec_pretty(report).map_err(io::Error::other);
            let written = json.and_then(|json| fs::write(path, json));
            written.map_err(|source| SimulateError::Write {
                path: path.clone(),
                source,
            })?;
        }
        if let Some(path) = &self.plot {
            let svg = plot::svg(report)?;
            fs::write(path, svg).map_err(|source| SimulateError::Write {
                path: path.clone(),
                source,
            })?;
        }
        Ok(())
    }
}

fn read<T>(file: &Path, parse: impl Fn(&str, &str) -> Result<T, Rejected>) -> Result<T, Rejected> {
    let origin = file.display().to_string();
    let text = aegis_config::read_file(file).map_err(|error| error.rejected(&origin))?;
    parse(&origin, &text)
}

/// The scenarios that are built in, a line each.
fn list() -> String {
    let mut lines = String::new();
    for Builtin { name, text } in BUILTIN {
        let about = Scenario::parse(name, text).map(|scenario| scenario.about);
        // They parse: a test says so.
        let _ = writeln!(lines, "{name:16} {}", about.unwrap_or_default());
    }
    lines.trim_end().to_owned()
}

/// What the simulator takes of a model.
fn setup(name: &Name, model: &Model) -> Setup {
    let mut names = 0;
    let mut version = |(name, version): (&Name, &config::Version)| Version {
        name: name.to_arc(),
        weight: version.weight,
        endpoints: version
            .endpoints
            .iter()
            .map(|at| place(at, &mut names))
            .collect(),
    };
    Setup {
        model: name.to_string(),
        versions: model.versions.iter().map(&mut version).collect(),
        fallback: model.fallback.iter().map(Name::to_arc).collect(),
        rules: model.rules(),
        max_retries: model.retry.max_retries,
        on_500: model.retry.on_500,
        request_timeout: model.timeouts.request,
        connect_timeout: model.timeouts.connect,
        check_interval: model.health_check.interval,
        check_timeout: model.health_check.timeout,
    }
}

/// An endpoint as it is configured. How many addresses a host name or a service stands
/// for is not asked here: it is one made-up endpoint, and a scenario may ask for more.
fn place(endpoint: &config::Endpoint, made_up: &mut u32) -> Place {
    let config::Endpoint { place, zone } = endpoint;
    let mut at = |port| {
        *made_up += 1;
        let ip = Ipv4Addr::from_bits(MADE_UP.to_bits() + *made_up);
        SocketAddr::from((ip, port))
    };
    let address = match place {
        config::Place::Address(address) => *address,
        config::Place::Named { port, .. } => at(*port),
        config::Place::Service { port, .. } => at(match port {
            config::ServicePort::Number(number) => number.get(),
            config::ServicePort::Only | config::ServicePort::Named(_) => MADE_UP_PORT,
        }),
    };
    Place {
        address,
        zone: zone.as_ref().map(Name::to_arc),
    }
}
