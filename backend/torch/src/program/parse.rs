//! Reads the signatures of a class in the source that libtorch prints.
//!
//! Not a parser of Python: libtorch prints classes in one form, and of that only the heads of methods
//! and the fields of named tuples are read. Bodies are skipped by their indentation.

use super::{Method, Parameter, Type};

/// How deep types may be nested: beyond that, no model means it.
const MAX_DEPTH: usize = 32;

/// A class of a source.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// A module, with its methods.
    Module(Vec<Method>),
    /// A named tuple, with the names and types of its fields.
    Tuple(Vec<(String, Type)>),
}

/// Finds the class of this name.
pub(super) fn class(source: &str, name: &str) -> Result<Class, String> {
    let head = format!("class {name}(");
    let mut lines = source.split_inclusive('\n');
    let start = loop {
        let line = lines
            .next()
            .ok_or_else(|| format!("expected the class `{name}`, found none of that name"))?;
        if line.starts_with(&head) {
            break line;
        }
    };
    let is_tuple = start.contains("(NamedTuple)");
    // Its lines are indented; the next class is not.
    let lines = lines.take_while(|line| line.starts_with(' ') || line.trim().is_empty());
    let body: String = std::iter::once("\n").chain(lines).collect();
    if is_tuple {
        return fields(&body).map(Class::Tuple);
    }
    let mut methods = Vec::new();
    let mut rest = body.as_str();
    while let Some((_, after)) = rest.split_once("\n  def ") {
        let (method, left) = method(after)?;
        methods.push(method);
        rest = left;
    }
    Ok(Class::Module(methods))
}

/// Reads `name(self: C, x: T=v, …) -> R:`, and returns what is left.
fn method(text: &str) -> Result<(Method, &str), String> {
    let (name, rest) = text
        .split_once('(')
        .ok_or("expected `(` after the name of a method")?;
    let (inside, rest) = closed(rest, ')').ok_or_else(|| format!("`{name}`: no closing `)`"))?;
    let rest = rest.trim_start();
    let (returns, rest) = match rest.strip_prefix("->") {
        Some(after) => {
            let end = outer(after, ':').ok_or_else(|| format!("`{name}`: no `:`"))?;
            (after[..end].trim(), &after[end..])
        }
        None => ("NoneType", rest),
    };
    let mut parameters = Vec::new();
    for part in parts(inside).into_iter().skip(1) {
        parameters.push(parameter(part).ok_or_else(|| {
            format!("`{name}`: expected a parameter as `x: Tensor`, got `{part}`")
        })?);
    }
    let method = Method {
        name: name.trim().to_owned(),
        parameters,
        returns: ty(returns, 0),
        fields: Vec::new(),
    };
    Ok((method, rest))
}

fn parameter(text: &str) -> Option<Parameter> {
    let (name, rest) = text.split_once(':')?;
    let (written, default) = match outer(rest, '=') {
        Some(at) => (&rest[..at], Some(rest[at + 1..].trim().to_owned())),
        None => (rest, None),
    };
    Some(Parameter {
        name: name.trim().to_owned(),
        ty: ty(written.trim(), 0),
        default,
    })
}

/// The fields of a named tuple: `  name : T`, one a line.
fn fields(body: &str) -> Result<Vec<(String, Type)>, String> {
    let lines = body.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| {
            let field = line.split_once(':');
            let (name, written) =
                field.ok_or_else(|| format!("expected a field as `x : Tensor`, got `{line}`"))?;
            Ok((name.trim().to_owned(), ty(written.trim(), 0)))
        })
        .collect()
}

fn ty(text: &str, depth: usize) -> Type {
    match text {
        "Tensor" => return Type::Tensor,
        "int" => return Type::Int,
        "float" => return Type::Float,
        "bool" => return Type::Bool,
        "str" => return Type::Str,
        _ if depth == MAX_DEPTH => return Type::Other(text.to_owned()),
        _ => {}
    }
    let other = || Type::Other(text.to_owned());
    let Some((generic, of)) = text
        .split_once('[')
        .and_then(|(generic, rest)| Some((generic, rest.strip_suffix(']')?)))
    else {
        return other();
    };
    let mut of: Vec<_> = parts(of)
        .into_iter()
        .map(|part| ty(part, depth + 1))
        .collect();
    match (generic, of.len()) {
        ("Tuple", _) => Type::Tuple(of),
        ("List", 1) => Type::List(Box::new(of.remove(0))),
        ("Optional", 1) => Type::Optional(Box::new(of.remove(0))),
        ("Dict", 2) => {
            let value = of.remove(1);
            Type::Dict(Box::new(of.remove(0)), Box::new(value))
        }
        _ => other(),
    }
}

/// What stands between commas that no bracket and no text holds.
fn parts(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(at) = outer(rest, ',') {
        parts.push(rest[..at].trim());
        rest = &rest[at + 1..];
    }
    parts.push(rest.trim());
    parts.retain(|part| !part.is_empty());
    parts
}

/// What stands before the bracket that closes, and what behind it.
fn closed(text: &str, bracket: char) -> Option<(&str, &str)> {
    let at = outer(text, bracket)?;
    Some((&text[..at], &text[at + bracket.len_utf8()..]))
}

/// Where this ASCII character stands outside of brackets and texts.
fn outer(text: &str, wanted: char) -> Option<usize> {
    let mut depth = 0_usize;
    let mut quoted = None;
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        if let Some(quote) = quoted {
            match character {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                _ if character == quote => quoted = None,
                _ => {}
            }
            continue;
        }
        match character {
            _ if character == wanted && depth == 0 => return Some(at),
            '"' | '\'' => quoted = Some(character),
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    None
}
