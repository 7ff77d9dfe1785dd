//! Whether the backend's memory stays flat under requests of all sizes and forms.
//!
//! Several clients ask without a pause, each in its own order: one row and many, more than a batch holds, in
//! JSON, flat and nested, and in binary, and one in ten is refused. The allocators of Rust and of libtorch
//! both keep what was freed, in pieces of the sizes that were asked for; what does not come back into use
//! shows here.

use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use aegis_protocol::{InferRequest, NamedTensor, Tensor, headers};
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use tokio::task::JoinSet;

use super::Watch;
use crate::args::{Models, Programs};
use crate::backend::{self, Served};
use crate::client;
use crate::serving::MODEL;

/// Clients that ask at a time.
const CLIENTS: usize = 8;
/// Rows of requests: up to twice what a batch holds.
const MOST_ROWS: u64 = 64;
const FEATURES: usize = 784;
/// One request in so many has rows of another length, and is refused.
const WRONG_EVERY: u64 = 10;

/// What went on meanwhile.
#[derive(Debug, Default)]
struct Counts {
    answered: AtomicU64,
    refused: AtomicU64,
}

/// How a request is written.
#[derive(Clone, Copy, Debug)]
enum Form {
    Json,
    Nested,
    Binary,
}

/// How long, and with what.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    programs: Programs,
    #[command(flatten)]
    models: Models,
    #[command(flatten)]
    watch: Watch,
}

/// Runs it, prints the readings, and says whether they grew too much.
pub(crate) async fn run(args: &Args) -> Result<ExitCode> {
    let command = Command::new(args.programs.find(backend::PROGRAM)?);
    let perceptron = Served {
        models: &args.models.folder()?,
        model: MODEL,
        settings: "",
    };
    let server = perceptron.start(command, tempfile::tempdir()?).await?;
    let counts = Arc::new(Counts::default());
    let over = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (counts, over) = (Arc::clone(&counts), Arc::clone(&over));
        let url = format!("http://{}/v2/models/{MODEL}/infer", server.address);
        clients.spawn(ask(url, client as u64, counts, over));
    }
    let readings = args.watch.beside(clients, &over, server.pid()).await?;
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (answered, refused) = (of(&counts.answered), of(&counts.refused));
    println!("{answered} requests answered, {refused} refused");
    ensure!(
        answered > 0 && refused > 0,
        "nothing went on that could have made it grow"
    );
    args.watch.conclude(&readings)
}

/// Asks until it is over.
async fn ask(url: String, client: u64, counts: Arc<Counts>, over: Arc<AtomicBool>) -> Result<()> {
    let http = client::plain();
    for nth in 0_u64.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        // All numbers of rows in turn, from client to client at another place.
        let rows = usize::try_from((nth * 7 + client * 8) % MOST_ROWS + 1)?;
        let is_wrong = (nth + client).is_multiple_of(WRONG_EVERY);
        let form = [Form::Json, Form::Binary, Form::Nested][usize::try_from((nth + client) % 3)?];
        let request = request(&url, rows, FEATURES - usize::from(is_wrong), form)?;
        let response = http.request(request).await?;
        let status = response.status().as_u16();
        response.into_body().collect().await?;
        let expected = if is_wrong { 400 } else { 200 };
        ensure!(status == expected, "{status} in place of {expected}");
        let counter = if is_wrong {
            &counts.refused
        } else {
            &counts.answered
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn request(url: &str, rows: usize, features: usize, form: Form) -> Result<Request<Full<Bytes>>> {
    let numbers: Vec<f32> = (0..rows * features)
        .map(|at| (at % 97) as f32 / 97.0)
        .collect();
    let tensor = Tensor::from_f32([rows, features], &numbers)?;
    let request = InferRequest {
        inputs: vec![NamedTensor::new("x", tensor)],
        ..InferRequest::default()
    };
    let post = Request::post(url);
    Ok(match form {
        Form::Json => post
            .header(header::CONTENT_TYPE, "application/json")
            .body(request.to_json()?.into())?,
        Form::Binary => {
            let encoded = request.to_binary()?;
            let length = encoded.json_length().context("no tensor behind the JSON")?;
            post.header(header::CONTENT_TYPE, "application/octet-stream")
                .header(headers::JSON_LENGTH, length)
                .body(encoded.joined().into())?
        }
        Form::Nested => {
            let rows: Vec<&[f32]> = numbers.chunks(features).collect();
            let body = serde_json::json!({"inputs": [{
                "name": "x", "datatype": "FP32", "shape": [rows.len(), features], "data": rows,
            }]});
            post.header(header::CONTENT_TYPE, "application/json")
                .body(body.to_string().into())?
        }
    })
}
