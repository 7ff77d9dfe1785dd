//! A message that its client has compressed.

use std::io::Read;

use aegis_protocol::excerpt;
use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{HeaderMap, HeaderValue};

use super::super::Refused;
use super::super::body::BodyError;
use crate::infer::work;

/// What is understood.
pub(super) const ACCEPTED: HeaderValue = HeaderValue::from_static("identity,gzip");
const ENCODING: &str = "grpc-encoding";

/// Reads it, as long as it stays within the limit: a few bytes may say that they are gigabytes.
pub(super) async fn read(
    headers: &HeaderMap,
    message: Bytes,
    limit: usize,
) -> Result<Bytes, Refused> {
    let encoding = headers.get(ENCODING).map(HeaderValue::as_bytes);
    if encoding != Some(b"gzip") {
        let got = String::from_utf8_lossy(encoding.unwrap_or(b"none"));
        return Err(Refused::GrpcEncoding {
            got: excerpt(&got).to_string(),
        });
    }
    // What it becomes is not known; most grow several times.
    let expected = message.len().saturating_mul(4);
    work(expected, move || gunzip(&message, limit)).await?
}

fn gunzip(message: &[u8], limit: usize) -> Result<Bytes, Refused> {
    let mut whole = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX);
    let mut read = GzDecoder::new(message).take(most.saturating_add(1));
    match read.read_to_end(&mut whole) {
        Ok(_) if whole.len() <= limit => Ok(whole.into()),
        Ok(_) => Err(BodyError::TooLarge { limit }.into()),
        Err(_) => Err(Refused::NoGzip),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn it_is_read_up_to_the_limit_and_no_further() {
        let bomb = gzip(&vec![0; 1 << 20]);
        assert_eq!(gunzip(&bomb, 1 << 20).unwrap().len(), 1 << 20);
        assert!(matches!(
            gunzip(&bomb, (1 << 20) - 1),
            Err(Refused::Body(BodyError::TooLarge { .. }))
        ));
    }

    #[test]
    fn what_is_no_gzip_or_cut_off_is_refused() {
        let cut = gzip(b"hello");
        for bytes in [b"hello".as_slice(), &cut[..cut.len() - 9], b""] {
            assert!(matches!(gunzip(bytes, 100), Err(Refused::NoGzip)));
        }
    }

    #[tokio::test]
    async fn another_encoding_is_refused_by_its_name() {
        let headers = HeaderMap::from_iter([(
            http::HeaderName::from_static(ENCODING),
            HeaderValue::from_static("snappy"),
        )]);
        let refused = read(&headers, Bytes::new(), 10).await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            "grpc-encoding: expected identity or gzip, got `snappy`"
        );
    }
}
