//! What a TorchScript file says of itself: the methods of its module, what they take and return.
//!
//! Names and Python types stand in the source that lies in the file, where libtorch prints it. Shapes
//! and datatypes do not: a `Tensor` is any tensor, and only a run tells.
//!
//! Reads the sources and the first bytes of `data.pkl`, which name the class of the module; never the
//! weights, so that a file of any size is looked at in a moment.

use std::io::{self, Read, Seek};

use zip::ZipArchive;
use zip::result::ZipError;

use parse::{Class, class};

mod parse;

/// The longest source of one class that is read, in bytes.
pub const MAX_SOURCE_BYTES: u64 = 8 << 20;

/// How much of `data.pkl` is read: the class of the module comes first.
const PICKLE_BYTES: u64 = 4096;
/// Where names of classes begin in the sources of TorchScript.
const ROOT: &str = "__torch__";

/// The methods of a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The module's class, as `__torch__.Net`.
    pub class: String,
    /// Its methods, in the order of the source.
    pub methods: Vec<Method>,
}

/// One method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Method {
    /// Its name, as `forward`.
    pub name: String,
    /// What it takes after `self`.
    pub parameters: Vec<Parameter>,
    /// What it returns.
    pub returns: Type,
    /// The names of what it returns, where it is a named tuple.
    pub fields: Vec<String>,
}

/// One parameter of a method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: Type,
    /// What it is when it is left out, as Python writes it.
    pub default: Option<String>,
}

/// A type of TorchScript.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// `Tensor`, of any shape and datatype.
    Tensor,
    /// `int`, 64 bits.
    Int,
    /// `float`, 64 bits.
    Float,
    /// `bool`.
    Bool,
    /// `str`.
    Str,
    /// `List[T]`.
    List(Box<Type>),
    /// `Tuple[T, …]`, or a named tuple.
    Tuple(Vec<Type>),
    /// `Dict[K, V]`.
    Dict(Box<Type>, Box<Type>),
    /// `Optional[T]`.
    Optional(Box<Type>),
    /// Anything else, as it is written.
    Other(String),
}

/// Why nothing is known of a file's methods.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The bytes are no zip file, or a damaged one.
    #[error("not a readable zip file, as TorchScript is")]
    Zip(#[from] ZipError),
    /// A record cannot be read.
    #[error("cannot unpack {record}")]
    Record {
        /// The name of the record.
        record: String,
        /// What happened.
        source: io::Error,
    },
    /// The file holds a state dict, or another thing that `torch.save` wrote.
    #[error(
        "holds {what} and no TorchScript module: save one with torch.jit.script or torch.jit.trace"
    )]
    NoModule {
        /// What it holds.
        what: &'static str,
    },
    /// A source is longer than [`MAX_SOURCE_BYTES`].
    #[error("{record} is longer than {MAX_SOURCE_BYTES} bytes")]
    TooLong {
        /// The name of the record.
        record: String,
    },
    /// A source is not text, or not as libtorch writes it.
    #[error("{record}: {fault}")]
    Source {
        /// The name of the record.
        record: String,
        /// What was found, and what was expected.
        fault: String,
    },
}

// === impl Program ===

impl Program {
    /// Reads what a file says of itself.
    ///
    /// # Errors
    /// When it is no TorchScript. The fault of the file; trying again does not help.
    pub fn read(file: impl Read + Seek) -> Result<Self, ProgramError> {
        let mut zip = ZipArchive::new(file)?;
        let folder = root(&zip)?;
        let name = class_of(&mut zip, &folder)?;
        let found = find(&mut zip, &folder, &name)?;
        let Class::Module(mut methods) = found else {
            return Err(ProgramError::NoModule { what: "a tuple" });
        };
        for method in &mut methods {
            resolve(&mut zip, &folder, method)?;
        }
        Ok(Self {
            class: name,
            methods,
        })
    }

    /// The method of this name.
    #[must_use]
    pub fn method(&self, name: &str) -> Option<&Method> {
        self.methods.iter().find(|method| method.name == name)
    }
}

/// The folder that all records lie under.
fn root<R: Read + Seek>(zip: &ZipArchive<R>) -> Result<String, ProgramError> {
    let pickle = zip.file_names().find_map(|name| {
        let folder = name.strip_suffix("/data.pkl")?;
        (!folder.contains('/')).then(|| folder.to_owned())
    });
    let nothing = "no data.pkl";
    let folder = pickle.ok_or(ProgramError::NoModule { what: nothing })?;
    let code = format!("{folder}/code/");
    if zip.file_names().any(|name| name.starts_with(&code)) {
        return Ok(folder);
    }
    let what = "weights or Python objects";
    Err(ProgramError::NoModule { what })
}

/// The class of the module: the first that the pickle names (its opcode `c`, with two lines behind it).
fn class_of<R: Read + Seek>(zip: &mut ZipArchive<R>, folder: &str) -> Result<String, ProgramError> {
    let record = format!("{folder}/data.pkl");
    let mut start = Vec::new();
    let file = zip.by_name(&record)?;
    let read = file.take(PICKLE_BYTES).read_to_end(&mut start);
    read.map_err(|source| unpacking(&record, source))?;
    let text = String::from_utf8_lossy(&start);
    let named = text.split_once(&format!("c{ROOT}"));
    let lines = named.and_then(|(_, rest)| rest.split_once('\n'));
    let (module, class) = lines
        .and_then(|(module, rest)| Some((module, rest.split_once('\n')?.0)))
        .ok_or(ProgramError::NoModule {
            what: "an object of no class",
        })?;
    Ok(format!("{ROOT}{module}.{class}"))
}

/// Reads the class of this name, as `__torch__.package.Net`: it is in `code/__torch__/package.py`.
fn find<R: Read + Seek>(
    zip: &mut ZipArchive<R>,
    folder: &str,
    name: &str,
) -> Result<Class, ProgramError> {
    let (module, last) = name.rsplit_once('.').unwrap_or((ROOT, name));
    let record = format!("{folder}/code/{}.py", module.replace('.', "/"));
    let mut bytes = Vec::new();
    let file = zip.by_name(&record).map_err(|error| match error {
        ZipError::FileNotFound => ProgramError::Source {
            record: record.clone(),
            fault: format!("expected the source of `{name}` there, found no such record"),
        },
        other => other.into(),
    })?;
    let read = file.take(MAX_SOURCE_BYTES + 1).read_to_end(&mut bytes);
    let read = read.map_err(|source| unpacking(&record, source))?;
    if read as u64 > MAX_SOURCE_BYTES {
        return Err(ProgramError::TooLong { record });
    }
    let wrong = |fault| ProgramError::Source {
        record: record.clone(),
        fault,
    };
    let text = String::from_utf8(bytes).map_err(|_| wrong("not UTF-8".to_owned()))?;
    class(&text, last).map_err(wrong)
}

/// Takes a named tuple that a method returns for the tuple that it is.
fn resolve<R: Read + Seek>(
    zip: &mut ZipArchive<R>,
    folder: &str,
    method: &mut Method,
) -> Result<(), ProgramError> {
    let Type::Other(name) = &method.returns else {
        return Ok(());
    };
    if !name.starts_with(ROOT) {
        return Ok(());
    }
    if let Class::Tuple(fields) = find(zip, folder, &name.clone())? {
        let (names, types) = fields.into_iter().unzip();
        method.fields = names;
        method.returns = Type::Tuple(types);
    }
    Ok(())
}

fn unpacking(record: &str, source: io::Error) -> ProgramError {
    ProgramError::Record {
        record: record.to_owned(),
        source,
    }
}

// === impl Type ===

impl std::fmt::Display for Type {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tensor => f.write_str("Tensor"),
            Self::Int => f.write_str("int"),
            Self::Float => f.write_str("float"),
            Self::Bool => f.write_str("bool"),
            Self::Str => f.write_str("str"),
            Self::List(of) => write!(f, "List[{of}]"),
            Self::Tuple(of) => {
                let of: Vec<_> = of.iter().map(ToString::to_string).collect();
                write!(f, "Tuple[{}]", of.join(", "))
            }
            Self::Dict(key, value) => write!(f, "Dict[{key}, {value}]"),
            Self::Optional(of) => write!(f, "Optional[{of}]"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests;
