//! The methods of the service, by path.

use http::{HeaderMap, header};

/// What a call asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Whether the process is alive.
    ServerLive,
    /// Whether the server is ready.
    ServerReady,
    /// The server's metadata.
    ServerMetadata,
    /// Whether a model is ready.
    ModelReady,
    /// A model's metadata.
    ModelMetadata,
    /// An inference.
    ModelInfer,
    /// Inferences, one answer or more each, for as long as the client likes.
    ModelStreamInfer,
    /// The state of a service, as gRPC itself has it.
    HealthCheck,
    /// What would load and unload models.
    Repository,
}

// === impl Method ===

impl Method {
    /// Reads a path; none where there is no such method.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        if path == "/grpc.health.v1.Health/Check" {
            return Some(Self::HealthCheck);
        }
        Some(
            match path.strip_prefix("/inference.GRPCInferenceService/")? {
                "ServerLive" => Self::ServerLive,
                "ServerReady" => Self::ServerReady,
                "ServerMetadata" => Self::ServerMetadata,
                "ModelReady" => Self::ModelReady,
                "ModelMetadata" => Self::ModelMetadata,
                "ModelInfer" => Self::ModelInfer,
                "ModelStreamInfer" => Self::ModelStreamInfer,
                "RepositoryIndex" | "RepositoryModelLoad" | "RepositoryModelUnload" => {
                    Self::Repository
                }
                _ => return None,
            },
        )
    }
}

/// Whether a request is a gRPC call, by its content type. What browsers send
/// (`application/grpc-web`) is framed otherwise, and is none.
#[must_use]
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    let rest = kind.and_then(|kind| kind.as_bytes().strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_told_by_its_content_type() {
        let with = |kind: &'static str| {
            let value = http::HeaderValue::from_static(kind);
            is_grpc(&HeaderMap::from_iter([(header::CONTENT_TYPE, value)]))
        };
        assert!(with("application/grpc") && with("application/grpc+proto"));
        assert!(with("application/grpc;charset=utf-8"));
        assert!(!with("application/grpc-web") && !with("application/json"));
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn a_method_is_told_by_its_whole_path() {
        let parse = Method::parse;
        let infer = "/inference.GRPCInferenceService/ModelInfer";
        assert_eq!(parse(infer), Some(Method::ModelInfer));
        assert_eq!(
            parse("/grpc.health.v1.Health/Check"),
            Some(Method::HealthCheck)
        );
        for other in ["", "/", "/ModelInfer", "/grpc.health.v1.Health/Watch"] {
            assert_eq!(parse(other), None, "{other}");
        }
        assert_eq!(parse(&format!("{infer}/")), None);
    }
}
