//! The draft as it is printed.

use std::fmt;
use std::path::Path;

use aegis_protocol::Datatype;
use aegis_torch::FORWARD;
use aegis_torch::program::{Method, Type};
use serde_json::Value;

use super::arguments::{Arguments, Axes, Sent, What};
use super::probe::{Behaviour, FREE};
use crate::repository::RawValue;

/// A `model.toml` to be looked over.
#[derive(Debug)]
pub(super) struct Draft {
    file: String,
    class: String,
    method: String,
    /// What the reader has to know.
    pub(super) notes: Vec<String>,
    inputs: Vec<Sent>,
    outputs: Vec<(String, Option<Axes>)>,
    alone: Option<String>,
    stateful: bool,
    /// How long first axes were that are free, where rows do not run together.
    rows: usize,
}

// === impl Draft ===

impl Draft {
    pub(super) fn new(file: &Path, class: &str, method: &str) -> Self {
        Self {
            file: file.display().to_string(),
            class: class.to_owned(),
            method: method.to_owned(),
            notes: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            alone: None,
            stateful: false,
            rows: 1,
        }
    }

    /// Takes what the runs have shown.
    pub(super) fn known(&mut self, arguments: Arguments, method: &Method, behaviour: Behaviour) {
        self.inputs = arguments.sent;
        self.alone = behaviour.alone;
        self.stateful = behaviour.stateful;
        self.rows = behaviour.rows;
        let count = behaviour.outputs.len();
        let named = behaviour
            .outputs
            .into_iter()
            .enumerate()
            .map(|(at, output)| {
                let name = output.name.unwrap_or_else(|| name(method, at, count));
                (name, Some(output.axes))
            });
        self.outputs = named.collect();
    }

    /// Takes what is known without a run.
    pub(super) fn unknown(&mut self, arguments: Arguments, method: &Method) {
        self.inputs = arguments.sent;
        let count = match &method.returns {
            Type::Tuple(of) => of.len(),
            _ => 1,
        };
        self.outputs = (0..count)
            .map(|at| (name(method, at, count), None))
            .collect();
    }
}

fn name(method: &Method, at: usize, count: usize) -> String {
    match method.fields.get(at) {
        Some(name) if method.fields.len() == count => name.clone(),
        _ if count == 1 => "output".to_owned(),
        _ => format!("output_{at}"),
    }
}

impl fmt::Display for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "# Drafted by `aegis-backend inspect` from {},",
            line(&self.file)
        )?;
        writeln!(
            f,
            "# method `{}` of {}. Look it over, then try it with",
            line(&self.method),
            line(&self.class)
        )?;
        writeln!(f, "# `aegis-backend check`.")?;
        for note in &self.notes {
            writeln!(f, "# - {}", line(note))?;
        }
        writeln!(f, "\nplatform = \"torchscript\"")?;
        if self.method != FORWARD {
            writeln!(f, "method = {}", text(&self.method))?;
        }
        match &self.alone {
            Some(why) => writeln!(f, "max_batch_size = 0 # {}", line(why))?,
            None => writeln!(f, "max_batch_size = 8")?,
        }
        if self.stateful {
            writeln!(f, "stateful = true")?;
        }
        let first = self.alone.as_ref().map(|_| self.rows);
        self.inputs
            .iter()
            .try_for_each(|sent| input(f, sent, first))?;
        for (name, axes) in &self.outputs {
            writeln!(f, "\n[[outputs]]\nname = {}", text(name))?;
            tensor(f, axes.as_ref())?;
        }
        Ok(())
    }
}

/// `first` is how long a free first axis is at warm-up, where it is not the row.
fn input(f: &mut fmt::Formatter<'_>, sent: &Sent, first: Option<usize>) -> fmt::Result {
    writeln!(f, "\n[[inputs]]\nname = {}", text(&sent.name))?;
    let value = match &sent.what {
        What::Unknown => {
            tensor(f, None)?;
            return place(f, sent);
        }
        What::Tensor(axes) => {
            tensor(f, Some(axes))?;
            place(f, sent)?;
            let sizes = axes
                .shape
                .iter()
                .enumerate()
                .filter(|(_, size)| **size == -1);
            let sizes = sizes.filter_map(|(axis, _)| if axis == 0 { first } else { Some(FREE) });
            let sizes: Vec<_> = sizes.collect();
            if !sizes.is_empty() {
                writeln!(f, "warm_up = {sizes:?}")?;
            }
            return Ok(());
        }
        What::Plain(value) => value,
    };
    let (kind, value) = match value {
        RawValue::Int(value) => ("int", Value::from(*value)),
        RawValue::Float(value) => ("float", Value::from(*value)),
        RawValue::Bool(value) => ("bool", Value::from(*value)),
        RawValue::Str(value) => ("str", Value::from(value.as_str())),
    };
    writeln!(f, "kind = \"{kind}\"\nvalue = {value}")?;
    if sent.optional {
        writeln!(f, "optional = true")?;
    }
    Ok(())
}

/// Where a tensor goes, and whether it must be there.
fn place(f: &mut fmt::Formatter<'_>, sent: &Sent) -> fmt::Result {
    if let Some(list) = &sent.list {
        writeln!(f, "list = {}", text(list))?;
    }
    if sent.optional {
        writeln!(f, "optional = true")?;
    }
    Ok(())
}

fn tensor(f: &mut fmt::Formatter<'_>, axes: Option<&Axes>) -> fmt::Result {
    match axes {
        Some(Axes { datatype, shape }) => {
            writeln!(f, "datatype = \"{datatype}\"\nshape = {shape:?}")
        }
        None => writeln!(
            f,
            "datatype = \"{}\" # not known\nshape = [-1] # not known",
            Datatype::Fp32
        ),
    }
}

/// A text of TOML, which reads those of JSON.
fn text(text: &str) -> Value {
    Value::from(text)
}

/// Without what would end a comment.
fn line(text: &str) -> String {
    text.replace(char::is_control, " ")
}
