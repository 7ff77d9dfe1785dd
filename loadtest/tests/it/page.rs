//! The page of a run, as a browser shows it: every plot has drawn data, nothing sticks out on a phone, and what
//! servers say stays text.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::server::{Asked, Server, refusal, right};
use crate::{DIGITS, closed_port};

/// What a hostile server says of itself.
const HOSTILE: &str = "<script>top.hacked=1</script><img src=x onerror=top.hacked=1>";

/// What the browser sees, at one width.
#[derive(Debug, Deserialize)]
struct Seen {
    /// How wide the page is, and how wide it may be.
    page: f64,
    window: f64,
    /// Elements that load or run something.
    loading: usize,
    /// Whether something from the server ran.
    is_hacked: bool,
    background: String,
    text: String,
    /// How wide the parts of bars in tables are.
    bars: Vec<f64>,
    plots: Vec<Plot>,
}

/// One plot.
#[derive(Debug, Deserialize)]
struct Plot {
    title: String,
    /// Pictures of it that are shown.
    shown: usize,
    /// Corners of its lines and areas, dots counted as one.
    points: usize,
    /// How large what was drawn is.
    width: f64,
    height: f64,
    /// The smallest letters, in pixels.
    letters: f64,
    /// Colours of its lines.
    colours: Vec<String>,
}

/// Writes into the document what is seen of the page in a frame.
const LOOK: &str = r"
const look = frame => {
  const page = frame.contentDocument;
  const style = element => frame.contentWindow.getComputedStyle(element);
  const plots = [...page.querySelectorAll('figure')].map(figure => {
    const shown = [...figure.querySelectorAll('svg')].filter(svg => style(svg).display !== 'none');
    const drawn = shown.flatMap(svg => [...svg.querySelectorAll('polyline, polygon, circle')])
      .filter(shape => /^[sf][0-9]$/.test(shape.getAttribute('class')));
    const count = shape => shape.points ? shape.points.length : 1;
    const boxes = drawn.map(shape => shape.getBoundingClientRect());
    const span = (from, to) => Math.max(...boxes.map(to)) - Math.min(...boxes.map(from));
    const letters = shown.flatMap(svg => [...svg.querySelectorAll('text')])
      .map(text => text.getBoundingClientRect().height);
    return {
      title: figure.querySelector('b').textContent,
      shown: shown.length,
      points: drawn.map(count).reduce((one, other) => one + other, 0),
      width: span(box => box.left, box => box.right),
      height: span(box => box.top, box => box.bottom),
      letters: Math.min(...letters),
      colours: drawn.map(shape => shape.tagName === 'polyline' ? style(shape).stroke : style(shape).fill),
    };
  });
  return {
    page: page.documentElement.scrollWidth,
    window: frame.clientWidth,
    loading: page.querySelectorAll('script, img, link, iframe, object, embed, [src], [href], [onerror]').length,
    is_hacked: 'hacked' in window,
    background: style(page.body).backgroundColor,
    text: page.body.innerText,
    bars: [...page.querySelectorAll('.bar i')].map(bar => bar.getBoundingClientRect().width),
    plots,
  };
};
window.onload = () => {
  const seen = [...document.querySelectorAll('iframe')].map(look);
  const out = document.createElement('div');
  out.id = 'seen';
  out.textContent = encodeURIComponent(JSON.stringify(seen));
  document.body.replaceChildren(out);
};
";

/// A browser's look at a page, at the widths of a phone and of a screen.
async fn seen(folder: &Path, page: &str, is_dark: bool) -> [Seen; 2] {
    let quoted = page.replace('&', "&amp;").replace('"', "&quot;");
    let frame = |width: u32| {
        format!(
            "<iframe style=\"width:{width}px;height:900px;border:0\" srcdoc=\"{quoted}\"></iframe>"
        )
    };
    let html = format!(
        "<!DOCTYPE html><meta charset=\"utf-8\"><body>{}{}<script>{LOOK}</script>",
        frame(390),
        frame(1200)
    );
    let path = folder.join("frames.html");
    std::fs::write(&path, html).unwrap();
    let mut command = Command::new("chromium");
    command
        // It is a page of our own; containers often have no sandbox to offer.
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
        .arg(format!(
            "--user-data-dir={}",
            folder.join("profile").display()
        ))
        .arg(format!(
            "--blink-settings=preferredColorScheme={}",
            u8::from(!is_dark)
        ))
        .arg(format!("file://{}", path.display()));
    let output = output(command).await;
    let dom = String::from_utf8_lossy(&output.stdout);
    let found = dom
        .split_once("<div id=\"seen\">")
        .and_then(|(_, rest)| rest.split_once('<'));
    let Some((seen, _)) = found else {
        panic!(
            "chromium saw nothing: {}\n{dom}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    serde_json::from_str(&decoded(seen)).expect("what the script writes")
}

/// Undoes `encodeURIComponent`.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, more)) = rest.split_first() {
        let hex = more.get(..2).filter(|_| first == b'%');
        let code = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(code.unwrap_or(first));
        rest = if code.is_some() { &more[2..] } else { more };
    }
    String::from_utf8(bytes).expect("UTF-8")
}

async fn output(mut command: Command) -> Output {
    command.stdin(Stdio::null());
    let name = command.get_program().to_string_lossy().into_owned();
    let run = move || {
        command.output().unwrap_or_else(|error| {
            panic!(
                "{name} does not start ({error}): `scripts/setup.sh test` installs what tests need"
            )
        })
    };
    tokio::task::spawn_blocking(run).await.expect("no panic")
}

/// Metrics that count batches of four rows, two a scrape; the third scrape fails.
async fn metrics() -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let scrapes = Arc::new(AtomicU64::new(0));
    let serve = async move {
        while let Ok((stream, _)) = listener.accept().await {
            let scrapes = Arc::clone(&scrapes);
            let service = service_fn(move |_| {
                let scrape = scrapes.fetch_add(1, Ordering::SeqCst);
                async move { Ok::<_, std::convert::Infallible>(exposition(scrape)) }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    };
    (url, tokio::spawn(serve))
}

fn exposition(scrape: u64) -> Response<Full<Bytes>> {
    if scrape == 2 {
        return refusal(StatusCode::SERVICE_UNAVAILABLE, "busy", "busy");
    }
    let labels = "{model=\"digits\",model_version=\"1\"}";
    Response::new(Full::from(format!(
        "# HELP aegis_inference_queue_depth Waiting\n\
         aegis_inference_queue_depth{labels} {}\n\
         aegis_inference_batch_size_count{labels} {}\n\
         aegis_inference_batch_size_sum{labels} {}\n",
        scrape % 3,
        2 * scrape,
        8 * scrape
    )))
}

/// Version 1, then 2; one in ten is refused, with words that would like to be more than words.
fn answer(asked: &Asked) -> Response<Full<Bytes>> {
    if asked.number % 10 == 3 {
        return refusal(StatusCode::SERVICE_UNAVAILABLE, HOSTILE, HOSTILE);
    }
    let mut answer = right(asked);
    if asked.number > 400 {
        let version = "2 <b onclick=1>&amp;</b>".parse().unwrap();
        answer
            .headers_mut()
            .insert(aegis_protocol::headers::MODEL_VERSION, version);
    }
    answer
}

/// Runs against a server for so long after a second, and gives the page back.
async fn page(folder: &Path, url: &str, duration: &str, more: &[&str]) -> (Output, String) {
    let data = folder.join("digits.csv");
    std::fs::write(&data, DIGITS).unwrap();
    let path = folder.join("page.html");
    let mut command = Command::new(env!("CARGO_BIN_EXE_aegis-loadtest"));
    command
        .args(["run", "--url", url, "--model", "digits", "--rate", "200"])
        .args(["--warmup", "1s", "--duration", duration, "--quiet"])
        .arg("--data")
        .arg(&data)
        .arg("--html")
        .arg(&path)
        .args(more);
    let output = output(command).await;
    (output, std::fs::read_to_string(path).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_plot_of_a_page_has_drawn_data_in_both_widths_and_colour_schemes() {
    let server = Server::start(async |asked| {
        tokio::time::sleep(Duration::from_millis(1 + asked.number % 7)).await;
        Some(answer(&asked))
    })
    .await;
    let (scraped, _metrics) = metrics().await;
    let (_socket, nobody) = closed_port();
    let folder = tempfile::tempdir().unwrap();
    let slo = folder.path().join("slo.toml");
    std::fs::write(
        &slo,
        "availability = 0.8\n[[latency]]\nquantile = 0.5\nbelow_ms = 1000.0\n",
    )
    .unwrap();
    let more = ["--scrape", &scraped, "--scrape", &nobody, "--slo"];
    // However busy this machine is.
    let more = [&more[..], &[slo.to_str().unwrap(), "--max-lag", "1s"]].concat();
    let (output, page) = page(folder.path(), &server.url, "5s", &more).await;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{stderr}");

    let light = seen(folder.path(), &page, false).await;
    let dark = seen(folder.path(), &page, true).await;
    for seen in light.iter().chain(&dark) {
        assert!(seen.page <= seen.window, "{} of {}", seen.page, seen.window);
        assert_eq!((seen.loading, seen.is_hacked), (0, false));
        let titles: Vec<_> = seen.plots.iter().map(|plot| plot.title.as_str()).collect();
        let expected = [
            "Latency",
            "Throughput",
            "Failures by reason",
            "Versions",
            "Batch size",
            "Queue depth",
            "Latency by percentile",
        ];
        assert_eq!(titles, expected);
        for plot in &seen.plots {
            assert_eq!(plot.shown, 1, "{plot:?}");
            assert!(plot.points >= 4, "{plot:?}");
            assert!(
                plot.width > seen.window * 0.4 && plot.height > 0.0,
                "{plot:?}"
            );
            assert!(plot.letters >= 9.0, "{plot:?}");
        }
        for text in [
            HOSTILE,
            "PASS",
            ">= 80 %",
            "objective: p50 < 1000 ms",
            "the measurement begins",
            "version 2 <b onclick=1>&amp;</b> answers for the first time",
            "version 1 answers for the last time",
            "first failure: <script>",
            "fails: status 503",
            "seed",
        ] {
            assert!(seen.text.contains(text), "{text}: {}", seen.text);
        }
    }
    for (light, dark) in light.iter().zip(&dark) {
        assert_ne!(light.background, dark.background);
        let colours = |seen: &Seen| -> Vec<_> {
            seen.plots
                .iter()
                .flat_map(|plot| plot.colours.clone())
                .collect()
        };
        let both = colours(light).into_iter().zip(colours(dark));
        for (light, dark) in both {
            assert_ne!(light, dark, "a colour of its own in the dark");
            assert!(
                light.starts_with("rgb(") && light != "rgb(0, 0, 0)",
                "{light}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_an_answer_still_has_a_page_that_says_so() {
    // It says what its model takes, and breaks every connection that asks for more.
    let nobody = Server::start(async |_| None).await;
    let folder = tempfile::tempdir().unwrap();
    let more = ["--max-lag", "10s"];
    let (output, page) = page(folder.path(), &nobody.url, "2s", &more).await;
    assert_eq!(output.status.code(), Some(1));
    let [phone, screen] = seen(folder.path(), &page, false).await;
    for seen in [phone, screen] {
        assert!(seen.page <= seen.window, "{} of {}", seen.page, seen.window);
        for text in [
            "FAIL",
            "answered no request: reset",
            "There are no latencies",
        ] {
            assert!(seen.text.contains(text), "{text}: {}", seen.text);
        }
        let titles: Vec<_> = seen.plots.iter().map(|plot| plot.title.as_str()).collect();
        assert_eq!(titles, ["Throughput", "Failures by reason"]);
        assert!(
            seen.plots.iter().all(|plot| plot.points >= 2),
            "{:?}",
            seen.plots
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_page_is_refused_before_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("digits.csv");
    std::fs::write(&data, DIGITS).unwrap();
    let page = folder.path().join("page.html");
    let page = page.to_str().unwrap();
    for (args, error) in [
        (
            &["--html", "no/such/page.html"][..],
            "--html: no/such/page.html: ",
        ),
        (&["--scrape", "http://h"][..], "--html <FILE>"),
        (
            &["--html", page, "--scrape", "h:1"][..],
            "expected an address like http://127.0.0.1:8000",
        ),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aegis-loadtest"));
        command
            .args(["run", "--url", "http://h", "--model", "m", "--data"])
            .arg(&data)
            .args(args);
        let output = output(command).await;
        assert_eq!(output.status.code(), Some(64), "{args:?}");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains(error), "{args:?}: {stderr}");
    }
}

/// A case with one feature, by which the server below decides.
fn case(name: &str, expect: &str, digit: u32) -> String {
    let input =
        format!(r#"{{"name": "image", "datatype": "FP32", "shape": [1, 1], "data": [{digit}]}}"#);
    format!(r#"{{"name": "{name}", "expect": {expect}, "request": {{"inputs": [{input}]}}}}"#)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_safety_shows_what_was_caught_flagged_and_missed() {
    let server = Server::start(async |asked| {
        let mut answer = match asked.digit {
            digit if digit < 1.5 => refusal(StatusCode::UNPROCESSABLE_ENTITY, "range", "{}"),
            _ => right(&asked),
        };
        let flags = match asked.digit {
            digit if digit < 0.5 => HOSTILE,
            digit if digit < 2.5 => "range",
            _ => return Some(answer),
        };
        let flags = flags.parse().unwrap();
        answer
            .headers_mut()
            .insert(aegis_protocol::headers::SAFETY_FLAGS, flags);
        Some(answer)
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let [cases, path] = ["cases.jsonl", "page.html"].map(|name| folder.path().join(name));
    let unsafe_ = "[\"range\"]";
    let lines = [
        case("refused", unsafe_, 1),
        case("flagged", unsafe_, 2),
        case("<i>let through</i>", unsafe_, 3),
        case("alarm", "\"safe\"", 0),
    ];
    std::fs::write(&cases, lines.join("\n")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_aegis-loadtest"));
    command
        .args(["safety", "--url", &server.url, "--model", "digits"])
        .args(["--bound", "0.8"])
        .arg("--cases")
        .arg(&cases)
        .arg("--html")
        .arg(&path);
    let output = output(command).await;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let page = std::fs::read_to_string(path).unwrap();
    for seen in seen(folder.path(), &page, true).await {
        assert!(seen.page <= seen.window, "{} of {}", seen.page, seen.window);
        assert_eq!((seen.loading, seen.is_hacked), (0, false));
        assert_eq!(
            seen.bars.len(),
            3,
            "refused, flagged, missed: {:?}",
            seen.bars
        );
        assert!(
            seen.bars.iter().all(|width| *width > 30.0),
            "{:?}",
            seen.bars
        );
        for text in ["FAIL", "<i>let through</i>", "passed", HOSTILE, "1 (100 %)"] {
            assert!(seen.text.contains(text), "{text}: {}", seen.text);
        }
    }
}
