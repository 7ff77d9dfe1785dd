//! The servers that are compared: each with one instance of the same perceptron, one thread inside
//! it, and batches of at most 32.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::MODEL;
use super::form::Form;
use crate::args::Programs;
use crate::backend::{self, CORES, Served};
use crate::process::{Running, free_port, local, write};

const PERCEPTRON: &str = include_str!("perceptron.py");
const TRITON_MODEL: &str = include_str!("triton_model.py");
const MOSEC_SERVER: &str = include_str!("mosec_server.py");

/// Where everything lies that a contender needs.
#[derive(Debug)]
pub(super) struct Places<'a> {
    /// Where our programs are.
    pub(super) programs: &'a Programs,
    /// The repository of models, absolute.
    pub(super) models: PathBuf,
    /// The Python environment of the peers.
    pub(super) peers: PathBuf,
}

/// One server, in one setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Contender {
    Aegis,
    /// Runs what is there when an instance is free.
    Triton,
    /// Waits 1 ms for company.
    TritonWaits,
    Mosec,
}

/// One that runs.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) process: Running,
    /// Where it counts what it answered.
    pub(super) metrics: SocketAddr,
    /// Where gRPC goes.
    pub(super) grpc: SocketAddr,
}

// === impl Contender ===

impl Contender {
    pub(super) const ALL: [Self; 4] = [Self::Aegis, Self::Triton, Self::TritonWaits, Self::Mosec];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Aegis => "aegis",
            Self::Triton => "triton",
            Self::TritonWaits => "triton-1ms",
            Self::Mosec => "mosec",
        }
    }

    pub(super) fn named(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|one| one.name() == name);
        found.with_context(|| {
            format!("no contender `{name}`; known: aegis, triton, triton-1ms, mosec")
        })
    }

    /// Whether it understands that form.
    pub(super) fn speaks(self, form: Form) -> bool {
        form != Form::Grpc || self != Self::Mosec
    }

    /// Where inferences of that form go, over HTTP.
    pub(super) fn path(self) -> String {
        match self {
            Self::Mosec => "/inference".to_owned(),
            _ => format!("/v2/models/{MODEL}/infer"),
        }
    }

    /// Starts it and waits until it is ready.
    pub(super) async fn start(self, places: &Places<'_>, form: Form) -> Result<Server> {
        let folder = tempfile::tempdir()?;
        let at = folder.path();
        let (http, grpc, metrics) = (free_port()?, free_port()?, free_port()?);
        let mut command = Command::new("taskset");
        command.args(["-c", CORES]).env("OPENBLAS_NUM_THREADS", "1");
        let ports = match self {
            Self::Aegis => {
                aegis(&mut command, places, at, http)?;
                (http, http)
            }
            Self::Triton => {
                triton(&mut command, places, at, [http, grpc, metrics], 0)?;
                (grpc, metrics)
            }
            Self::TritonWaits => {
                triton(&mut command, places, at, [http, grpc, metrics], 1_000)?;
                (grpc, metrics)
            }
            Self::Mosec => {
                mosec(&mut command, places, at, http, form)?;
                (http, http)
            }
        };
        let process = Running::launch(self.name(), command, http, folder).await?;
        Ok(Server {
            process,
            grpc: local(ports.0),
            metrics: local(ports.1),
        })
    }
}

fn aegis(command: &mut Command, places: &Places<'_>, at: &Path, port: u16) -> Result<()> {
    command.arg(places.programs.find(backend::PROGRAM)?);
    let served = Served {
        models: &places.models,
        model: MODEL,
        settings: "",
    };
    served.by(command, at, port)
}

fn triton(
    command: &mut Command,
    places: &Places<'_>,
    at: &Path,
    [http, grpc, metrics]: [u16; 3],
    delay_us: u32,
) -> Result<()> {
    let (packages, version) = packages(&places.peers)?;
    let home = packages.join("pytriton/tritonserver");
    let backend = at.join("backends/python");
    fs::create_dir_all(&backend)?;
    for file in ["libtriton_python.so", "triton_python_backend_utils.py"] {
        fs::copy(home.join("backends/python").join(file), backend.join(file))?;
    }
    let stub = "triton_python_backend_stub";
    fs::copy(
        home.join("python_backend_stubs").join(&version).join(stub),
        backend.join(stub),
    )
    .with_context(|| format!("Triton's Python backend for Python {version}"))?;
    let model = at.join("models").join(MODEL);
    fs::create_dir_all(model.join("1"))?;
    write(at, "perceptron.py", PERCEPTRON)?;
    let source = TRITON_MODEL
        .replace("PACKAGES", &packages.display().to_string())
        .replace("HERE", &at.display().to_string())
        .replace("WEIGHTS", &weights(places)?.display().to_string());
    write(&model.join("1"), "model.py", &source)?;
    let config = format!(
        "name: \"{MODEL}\"\nbackend: \"python\"\nmax_batch_size: 32\n\
         input [{{ name: \"x\" data_type: TYPE_FP32 dims: [784] }}]\n\
         output [{{ name: \"y\" data_type: TYPE_FP32 dims: [10] }}]\n\
         instance_group [{{ kind: KIND_CPU count: 1 }}]\n\
         dynamic_batching {{ max_queue_delay_microseconds: {delay_us} }}\n"
    );
    write(&model, "config.pbtxt", &config)?;
    let flag = |name: &str, value: &Path| format!("--{name}={}", value.display());
    command
        .env("LD_LIBRARY_PATH", packages.join("nvidia_pytriton.libs"))
        .arg(home.join("bin/tritonserver"))
        .arg(flag("model-repository", &at.join("models")))
        .arg(flag("backend-directory", &at.join("backends")))
        .arg(format!("--http-port={http}"))
        .arg(format!("--grpc-port={grpc}"))
        .arg(format!("--metrics-port={metrics}"));
    Ok(())
}

fn mosec(
    command: &mut Command,
    places: &Places<'_>,
    at: &Path,
    port: u16,
    form: Form,
) -> Result<()> {
    write(at, "perceptron.py", PERCEPTRON)?;
    let file = write(at, "mosec_server.py", MOSEC_SERVER)?;
    command
        .env("WEIGHTS", weights(places)?)
        .env("FORM", form.name())
        .arg(places.peers.join("bin/python"))
        .arg(file)
        .args(["--address", "127.0.0.1", "--port", &port.to_string()]);
    Ok(())
}

fn weights(places: &Places<'_>) -> Result<PathBuf> {
    let file = places.models.join(MODEL).join("weights.f32");
    ensure!(file.is_file(), "no file {}", file.display());
    Ok(file)
}

/// The folder of the environment's packages, and its version of Python.
fn packages(peers: &Path) -> Result<(PathBuf, String)> {
    for entry in fs::read_dir(peers.join("lib")).with_context(|| format!("{}", peers.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(version) = name.strip_prefix("python") {
            return Ok((entry.path().join("site-packages"), version.to_owned()));
        }
    }
    bail!("no Python environment in {}", peers.display())
}
