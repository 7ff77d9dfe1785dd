//! `inspect`: a draft of `model.toml` from a TorchScript file.
//!
//! Methods, arguments and their types stand in the file. Datatypes and shapes do not: what `--input` leaves
//! open is guessed from the shapes of the parameters, and a guess counts only when the model runs on it. Then
//! the model is run a few times, on numbers that mean nothing: what it returns says what the outputs are,
//! whether rows may run together, and whether the module keeps state.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use aegis_torch::program::{Program, ProgramError};
use aegis_torch::{Argument, Device, LoadError, Module};

use super::{Exit, exit};
use crate::chain::Chain;
use crate::repository::ModelSpec;
use arguments::{ArgumentsError, Given, Sent, What, arguments};
use draft::Draft;
use probe::probe;

mod arguments;
mod draft;
mod guess;
mod probe;

/// What is looked at.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  aegis-backend inspect config/models/digits/1/model.pt --input 'argument_1=FP32[-1,64]'"
)]
pub(super) struct InspectArgs {
    /// The TorchScript file, or the folder of a version with a model.pt.
    file: PathBuf,
    /// The method that requests will call.
    #[arg(long, default_value = aegis_torch::FORWARD)]
    method: String,
    /// What an argument is: NAME=DATATYPE[SHAPE] for a tensor, with -1 for a free axis, as
    /// `image=FP32[-1,64]`; NAME=VALUE for an int, float, bool or str. Once for each, and once for each tensor
    /// of a list; what is left out is taken from the file, or guessed.
    #[arg(long = "input", value_name = "NAME=WHAT")]
    inputs: Vec<Given>,
}

/// Why there is no draft.
#[derive(Debug, thiserror::Error)]
enum InspectError {
    #[error("{path}: cannot be read", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{path}", path = path.display())]
    Program { path: PathBuf, source: ProgramError },
    #[error("{path}: no method `{method}`; it has {known}", path = path.display())]
    NoMethod {
        path: PathBuf,
        method: String,
        known: String,
    },
    #[error(transparent)]
    Arguments(#[from] ArgumentsError),
    #[error("{path}", path = path.display())]
    Load { path: PathBuf, source: LoadError },
}

/// Prints the draft. What is missing in it goes to the standard error, and makes it fail.
pub(super) fn inspect(args: &InspectArgs) -> Exit {
    let (draft, missing) = match drafted(args) {
        Ok(drafted) => drafted,
        Err(error) => {
            eprintln!("{}", Chain(&error));
            return Exit::Failed;
        }
    };
    let text = draft.to_string();
    let printed = exit::print(&text);
    // What the draft says of itself is what the server would say of it.
    let missing = missing.or_else(|| {
        let parsed = ModelSpec::parse("the draft", &text);
        parsed.err().map(|error| error.to_string())
    });
    match missing {
        None => printed,
        Some(missing) => {
            eprintln!("the draft has to be completed: {missing}");
            Exit::Failed
        }
    }
}

/// A draft, and what is not known.
fn drafted(args: &InspectArgs) -> Result<(Draft, Option<String>), InspectError> {
    let path = if args.file.is_dir() {
        args.file.join("model.pt")
    } else {
        args.file.clone()
    };
    let program = read(&path)?;
    let method = program
        .method(&args.method)
        .ok_or_else(|| InspectError::NoMethod {
            path: path.clone(),
            method: args.method.clone(),
            known: known(&program),
        })?;
    let mut arguments = arguments(method, &args.inputs)?;
    let load = |source| InspectError::Load {
        path: path.clone(),
        source,
    };
    let module = Module::load(&path, Device::Cpu).map_err(load)?;
    let kinds = kinds(&arguments.sent);
    let run = |inputs: &[aegis_protocol::Tensor]| {
        let returned = module.describe(&method.name, &kinds, inputs);
        returned.map_err(|error| error.to_string())
    };
    let mut draft = Draft::new(&path, &program.class, &method.name);
    draft.notes.append(&mut arguments.notes);
    let missing = if arguments.is_known() {
        None
    } else {
        let shapes = module.parameters().map_err(load)?;
        guess::complete(&mut arguments, &shapes, &run, &mut draft.notes)
    };
    if missing.is_some() {
        draft.unknown(arguments, method);
        return Ok((draft, missing));
    }
    let missing = match probe(&arguments.sent, &run) {
        Ok(behaviour) => {
            probe::leave_out(&mut arguments.sent, &run, &mut draft.notes);
            draft.known(arguments, method, behaviour);
            None
        }
        Err(reason) => {
            draft.unknown(arguments, method);
            Some(format!("a run failed: {reason}"))
        }
    };
    Ok((draft, missing))
}

/// How they enter the method.
fn kinds(sent: &[Sent]) -> Vec<Argument> {
    let mut before = None;
    let kinds = sent.iter().map(|sent| {
        let is_first = std::mem::replace(&mut before, sent.list.as_ref()) != sent.list.as_ref();
        match sent.what {
            What::Plain(_) => Argument::Plain,
            _ if sent.list.is_some() => Argument::Element { is_first },
            _ if sent.optional => Argument::Optional,
            What::Tensor(_) | What::Unknown => Argument::Tensor,
        }
    });
    kinds.collect()
}

fn read(path: &Path) -> Result<Program, InspectError> {
    let file = File::open(path).map_err(|source| InspectError::Read {
        path: path.to_owned(),
        source,
    })?;
    Program::read(BufReader::new(file)).map_err(|source| InspectError::Program {
        path: path.to_owned(),
        source,
    })
}

fn known(program: &Program) -> String {
    let names: Vec<_> = program
        .methods
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

#[cfg(test)]
mod tests;
