//! The table of claims and proofs is true: every proof it names is a test that exists.
//!
//! A plan is kept by whoever can point at the proof of each sentence. `tests/proofs/` holds a table
//! for each plan; a test that is renamed or taken out breaks the row that leans on it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use aegis_e2e::workspace_root;
use anyhow::{Context, Result, ensure};

/// The plans, and the least rows that the table of each has: one that is emptied proves nothing.
const TABLES: [(&str, usize); 2] = [("proxy.md", 60), ("serving.md", 60)];

/// What is wrong with a line of a table; nothing for one that is good.
fn check(line: &str, section: &str) -> Result<bool> {
    if let Some(open) = line.strip_prefix("- ") {
        ensure!(section == "Not yet", "an open claim outside of `Not yet`");
        let (_, reason) = open.split_once(": ").context("no reason after a colon")?;
        ensure!(!reason.trim().is_empty(), "an empty reason");
        return Ok(false);
    }
    let Some(row) = line.strip_prefix("| ") else {
        return Ok(false);
    };
    if row == "claim | proof |" {
        return Ok(false);
    }
    ensure!(section != "Not yet", "a proved claim among the open ones");
    let cells: Vec<&str> = row.trim_end_matches('|').split(" | ").collect();
    let [claim, proofs] = cells[..] else {
        anyhow::bail!("{} cells in place of 2", cells.len());
    };
    ensure!(!claim.trim().is_empty(), "no claim");
    let mut proofs = proofs.split_whitespace().peekable();
    ensure!(proofs.peek().is_some(), "no proof");
    for proof in proofs {
        exists(proof).with_context(|| proof.to_owned())?;
    }
    Ok(true)
}

/// Whether `path::name`, in backticks, is a test.
fn exists(proof: &str) -> Result<()> {
    let inner = proof.strip_prefix('`').and_then(|p| p.strip_suffix('`'));
    let (path, name) = inner
        .and_then(|inner| inner.rsplit_once("::"))
        .context("it is not `path::name`")?;
    let text = fs::read_to_string(workspace_root().join(path))?;
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    if Path::new(path)
        .extension()
        .is_some_and(|ending| ending == "py")
    {
        // What unittest runs; and a test is declared and never skipped, or its file would say so.
        let declared = ["def", "async def"].map(|def| format!("{def} {name}(self"));
        ensure!(name.starts_with("test_"), "the function is no test");
        ensure!(!text.contains("skip"), "a test of the file may be skipped");
        let is_declared = |line: &&str| declared.iter().any(|start| line.starts_with(start));
        let found = lines.iter().any(is_declared);
        ensure!(found, "there is no such function");
        return Ok(());
    }
    let declared = [format!("fn {name}("), format!("async fn {name}(")];
    let at = lines
        .iter()
        .position(|line| declared.iter().any(|start| line.starts_with(start)));
    let at = at.context("there is no such function")?;
    let is_test = lines[..at]
        .iter()
        .rev()
        .take_while(|line| line.starts_with("#[") || line.starts_with("//"))
        .any(|line| line.starts_with("#[test") || line.starts_with("#[tokio::test"));
    ensure!(is_test, "the function is no test");
    Ok(())
}

#[test]
fn every_claim_about_a_plan_has_a_test_that_exists() {
    for (table, least) in TABLES {
        check_table(table, least);
    }
}

fn check_table(table: &str, least: usize) {
    let path = workspace_root().join("tests/proofs").join(table);
    let text = fs::read_to_string(path).expect("the table");
    let (mut section, mut rows, mut wrong) = ("", 0, Vec::new());
    let mut claims = BTreeSet::new();
    for (index, line) in text.lines().enumerate() {
        section = line.strip_prefix("## ").unwrap_or(section);
        match check(line, section) {
            Ok(true) => {
                rows += 1;
                let claim = line.split(" | ").next();
                if !claims.insert((section, claim)) {
                    wrong.push(format!("line {}: a claim twice", index + 1));
                }
            }
            Ok(false) => {}
            Err(error) => wrong.push(format!("line {}: {error:#}", index + 1)),
        }
    }
    assert!(wrong.is_empty(), "{table}:\n{}", wrong.join("\n"));
    assert!(rows >= least, "only {rows} rows are left in {table}");
}

#[test]
fn a_row_that_leans_on_nothing_is_found() {
    let here = "tests/tests/proofs.rs::a_row_that_leans_on_nothing_is_found";
    assert!(check(&format!("| a claim | `{here}` |"), "a").unwrap());
    for line in [
        "| a claim | `tests/tests/proofs.rs::there_is_none` |".to_owned(),
        "| a claim | `tests/tests/proofs.rs::check` |".to_owned(),
        "| a claim | `tests/tests/nowhere.rs::a` |".to_owned(),
        "| a claim | `nowhere` |".to_owned(),
        "| a claim |  |".to_owned(),
        format!("| a claim | `{here}` | more |"),
        "- a claim: without a section".to_owned(),
    ] {
        assert!(check(&line, "a").is_err(), "{line}");
    }
    assert!(check("- a claim", "Not yet").is_err());
    assert!(check("- a claim: not built", "Not yet").is_ok());
    assert!(check(&format!("| a claim | `{here}` |"), "Not yet").is_err());
}
