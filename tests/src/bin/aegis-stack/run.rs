//! `aegis-stack run`: a stack to play with.

use std::path::PathBuf;
use std::process::ExitCode;

use aegis_e2e::digits::{self, Digit};
use aegis_e2e::{Backend, CANARY, Proxy, STABLE};
use anyhow::{Context, Result};

use crate::keeper::Keeper;
use crate::screen::{Screen, say};

/// Starts the stack, says how to use it, and stays until it is told to stop.
pub(crate) async fn run(folder: Option<PathBuf>) -> Result<ExitCode> {
    let screen = Screen::new();
    let mut keeper = Keeper::start(screen, folder).await?;
    let digit = known_digit(&keeper.stack.proxy).await?;
    say(invitation(screen, &keeper, &digit));
    keeper.until_told_to_stop().await;
    keeper.drain().await?;
    Ok(ExitCode::SUCCESS)
}

/// The first held-out image that both versions recognise, so that whichever answers is right.
async fn known_digit(proxy: &Proxy) -> Result<Digit> {
    for digit in digits::held_out()? {
        let mut right = true;
        for version in [STABLE, CANARY] {
            let answer = proxy
                .infer_pinned(version, digits::request(&[digit]))
                .await?;
            let labels = digits::labels(&answer.body).with_context(|| answer.text())?;
            right &= labels == [i64::from(digit.label)];
        }
        if right {
            return Ok(digit);
        }
    }
    anyhow::bail!("the versions agree on no held-out image")
}

fn invitation(screen: Screen, keeper: &Keeper, digit: &Digit) -> String {
    let stack = &keeper.stack;
    let at = |backends: &[Backend]| {
        backends
            .iter()
            .map(|b| b.address().to_string())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let url = format!("http://{}{}", stack.proxy.data(), stack.proxy.infer_path());
    let body = String::from_utf8_lossy(&digits::request(&[*digit])).into_owned();
    let picture: Vec<String> = digit
        .picture()
        .iter()
        .map(|row| format!("    {row}"))
        .collect();
    [
        String::new(),
        format!("  {}  {url}", screen.bold("endpoint  ")),
        format!(
            "  {}  http://{}/status",
            screen.bold("admin     "),
            stack.proxy.admin()
        ),
        format!(
            "  {}  {}",
            screen.bold("proxy TOML"),
            stack.proxy.file.path().display()
        ),
        format!("  {}  {}", screen.bold("version 1 "), at(&stack.stable)),
        format!("  {}  {}", screen.bold("version 2 "), at(&stack.canary)),
        String::new(),
        format!("An image that no training has seen, a {}:", digit.label),
        String::new(),
        picture.join("\n"),
        String::new(),
        format!("curl -s {url} -H 'content-type: application/json' -d '{body}'"),
        String::new(),
        format!(
            "The right answer has \"label\" {}. Edit a weight in the TOML and save,",
            digit.label
        ),
        "and the split follows at once. Ctrl-C drains and ends everything.".to_owned(),
    ]
    .join("\n")
}
