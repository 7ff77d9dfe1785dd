//! Server reflection: how a client asks which services there are, and what their messages are.
//!
//! The answers come from the `.proto` files beside this crate's sources, compiled: a test compiles them
//! again and compares, so that the two cannot differ. Both versions of the service, v1 and v1alpha, have the
//! same messages under other names.

use std::sync::OnceLock;

use bytes::Bytes;
use prost::Message;
use prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet};

use super::Code;

/// All files, compiled: a `google.protobuf.FileDescriptorSet`.
const COMPILED: &[u8] = include_bytes!("../../proto/descriptors.bin");

/// A question.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ReflectionRequest {
    /// Whom the client believes to ask.
    #[prost(string, tag = "1")]
    pub host: String,
    /// What is asked.
    #[prost(oneof = "Question", tags = "3, 4, 5, 6, 7")]
    pub question: Option<Question>,
}

/// What can be asked.
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub enum Question {
    /// For a file by its name.
    #[prost(string, tag = "3")]
    File(String),
    /// For the file that declares this, with its package.
    #[prost(string, tag = "4")]
    Symbol(String),
    /// For the file that declares an extension. There are none.
    #[prost(message, tag = "5")]
    Extension(Extension),
    /// For the numbers of extensions. There are none.
    #[prost(string, tag = "6")]
    Extensions(String),
    /// For the services. What it says is not looked at.
    #[prost(string, tag = "7")]
    Services(String),
}

/// An extension of a message.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Extension {
    /// The message.
    #[prost(string, tag = "1")]
    pub containing_type: String,
    /// The number of the field.
    #[prost(int32, tag = "2")]
    pub extension_number: i32,
}

/// An answer.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ReflectionResponse {
    /// As asked.
    #[prost(string, tag = "1")]
    pub valid_host: String,
    /// As asked.
    #[prost(message, optional, tag = "2")]
    pub original_request: Option<ReflectionRequest>,
    /// What is answered.
    #[prost(oneof = "Reply", tags = "4, 6, 7")]
    pub reply: Option<Reply>,
}

/// What can be answered.
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub enum Reply {
    /// Files.
    #[prost(message, tag = "4")]
    Files(Files),
    /// Services.
    #[prost(message, tag = "6")]
    Services(Services),
    /// Nothing, and why.
    #[prost(message, tag = "7")]
    Error(ReflectionError),
}

/// Files, each an encoded `google.protobuf.FileDescriptorProto`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Files {
    /// The file, and those that it imports: ours import none.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub file: Vec<Bytes>,
}

/// The names of services.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Services {
    /// One each.
    #[prost(message, repeated, tag = "1")]
    pub service: Vec<Service>,
}

/// A service.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Service {
    /// Its name, with its package.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// Why there is no answer.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ReflectionError {
    /// A status code of gRPC.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// The same in words.
    #[prost(string, tag = "2")]
    pub message: String,
}

/// A file, and what is in it.
#[derive(Debug)]
struct File {
    name: String,
    services: Vec<String>,
    symbols: Vec<String>,
    encoded: Bytes,
}

// === impl ReflectionRequest ===

impl ReflectionRequest {
    /// The answer.
    #[must_use]
    pub fn answer(self) -> ReflectionResponse {
        let not_found = |what: &str, name: &str| {
            Reply::Error(ReflectionError {
                code: Code::NotFound.number(),
                message: format!("no such {what}: `{}`", crate::excerpt(name)),
            })
        };
        let file = |found: Option<&File>| {
            let file = vec![found?.encoded.clone()];
            Some(Reply::Files(Files { file }))
        };
        let reply = match &self.question {
            Some(Question::File(name)) => {
                let found = files().iter().find(|file| file.name == *name);
                file(found).unwrap_or_else(|| not_found("file", name))
            }
            Some(Question::Symbol(name)) => {
                let found = files().iter().find(|file| file.symbols.contains(name));
                file(found).unwrap_or_else(|| not_found("symbol", name))
            }
            Some(Question::Extension(extension)) => {
                not_found("extension of", &extension.containing_type)
            }
            Some(Question::Extensions(name)) => not_found("extension of", name),
            Some(Question::Services(_)) => {
                let names = files().iter().flat_map(|file| &file.services);
                let service = names.map(|name| Service { name: name.clone() });
                Reply::Services(Services {
                    service: service.collect(),
                })
            }
            None => Reply::Error(ReflectionError {
                code: Code::InvalidArgument.number(),
                message: "nothing is asked".to_owned(),
            }),
        };
        ReflectionResponse {
            valid_host: self.host.clone(),
            original_request: Some(self),
            reply: Some(reply),
        }
    }
}

/// The files that are told of.
fn files() -> &'static [File] {
    static FILES: OnceLock<Vec<File>> = OnceLock::new();
    FILES.get_or_init(|| {
        // A test decodes it.
        let set = FileDescriptorSet::decode(COMPILED).unwrap_or_default();
        set.file.into_iter().map(File::of).collect()
    })
}

// === impl File ===

impl File {
    fn of(file: FileDescriptorProto) -> Self {
        let encoded = file.encode_to_vec().into();
        let package = file.package.clone().unwrap_or_default();
        let mut symbols = Vec::new();
        let mut services = Vec::new();
        for service in &file.service {
            let name = format!("{package}.{}", service.name());
            symbols.extend(
                service
                    .method
                    .iter()
                    .map(|method| format!("{name}.{}", method.name())),
            );
            services.push(name);
        }
        symbols.extend(services.iter().cloned());
        for message in &file.message_type {
            declared(&package, message, &mut symbols);
        }
        symbols.extend(
            file.enum_type
                .iter()
                .map(|one| format!("{package}.{}", one.name())),
        );
        Self {
            name: file.name.unwrap_or_default(),
            services,
            symbols,
            encoded,
        }
    }
}

/// Adds a message and what is declared in it.
fn declared(parent: &str, message: &DescriptorProto, symbols: &mut Vec<String>) {
    let name = format!("{parent}.{}", message.name());
    for inner in &message.nested_type {
        declared(&name, inner, symbols);
    }
    symbols.extend(
        message
            .enum_type
            .iter()
            .map(|one| format!("{name}.{}", one.name())),
    );
    symbols.push(name);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The files in the order in which they are told of.
    const PROTOS: [&str; 4] = [
        "inference.proto",
        "grpc/health/v1/health.proto",
        "grpc/reflection/v1/reflection.proto",
        "grpc/reflection/v1alpha/reflection.proto",
    ];

    fn ask(question: Question) -> Reply {
        let request = ReflectionRequest {
            host: "here".to_owned(),
            question: Some(question),
        };
        let answer = request.clone().answer();
        assert_eq!(answer.original_request, Some(request));
        answer.reply.unwrap()
    }

    #[test]
    fn the_compiled_files_are_those_beside_them() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
        let mut set = protox::compile(PROTOS, [&folder]).unwrap();
        // Words and places are for readers of the files.
        for file in &mut set.file {
            file.source_code_info = None;
        }
        let compiled = set.encode_to_vec();
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(folder.join("descriptors.bin"), &compiled).unwrap();
        }
        assert!(
            COMPILED == compiled,
            "to write them anew: UPDATE=1 cargo test -p aegis-protocol compiled"
        );
    }

    #[test]
    fn services_symbols_and_files_are_told_and_others_are_not_found() {
        let Reply::Services(services) = ask(Question::Services(String::new())) else {
            panic!("no services");
        };
        let names: Vec<_> = services
            .service
            .iter()
            .map(|one| one.name.as_str())
            .collect();
        assert_eq!(
            names,
            [
                "inference.GRPCInferenceService",
                "grpc.health.v1.Health",
                "grpc.reflection.v1.ServerReflection",
                "grpc.reflection.v1alpha.ServerReflection",
            ]
        );
        for symbol in [
            "inference.GRPCInferenceService",
            "inference.GRPCInferenceService.ModelInfer",
            "inference.ModelInferRequest.InferInputTensor",
        ] {
            let by_symbol = ask(Question::Symbol(symbol.to_owned()));
            assert_eq!(by_symbol, ask(Question::File("inference.proto".to_owned())));
            let Reply::Files(files) = by_symbol else {
                panic!("no file for {symbol}");
            };
            FileDescriptorProto::decode(files.file[0].clone()).unwrap();
        }
        let status = "grpc.health.v1.HealthCheckResponse.ServingStatus".to_owned();
        assert!(matches!(ask(Question::Symbol(status)), Reply::Files(_)));
        for question in [
            Question::File("other.proto".to_owned()),
            Question::Symbol("inference".to_owned()),
            Question::Extensions("inference.ModelInferRequest".to_owned()),
            Question::Extension(Extension::default()),
        ] {
            let Reply::Error(error) = ask(question.clone()) else {
                panic!("{question:?} is answered");
            };
            assert_eq!(error.code, Code::NotFound.number());
        }
        let nothing = ReflectionRequest::default().answer().reply.unwrap();
        assert!(matches!(nothing, Reply::Error(error) if error.code == 3));
    }
}
