//! A message that its client has compressed.

use aegis_protocol::excerpt;
use http::{HeaderMap, HeaderValue};

use super::super::Refused;
use super::super::body::Upload;
use super::super::coding::Coding;
use crate::infer::work;

/// What is understood.
pub(super) const ACCEPTED: HeaderValue = HeaderValue::from_static("identity,gzip");
const ENCODING: &str = "grpc-encoding";

/// Expands it within the limit and the budget for bodies, as REST does.
pub(super) async fn read(
    headers: &HeaderMap,
    message: Upload,
    limit: usize,
) -> Result<Upload, Refused> {
    let encoding = headers.get(ENCODING).map(HeaderValue::as_bytes);
    if encoding != Some(b"gzip") {
        let got = String::from_utf8_lossy(encoding.unwrap_or(b"none"));
        return Err(Refused::GrpcEncoding {
            got: excerpt(&got).to_string(),
        });
    }
    // What it expands to is not known before.
    Ok(work(usize::MAX, move || message.expand(Coding::Gzip, limit)).await??)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::super::super::body::BodyError;
    use super::super::super::uploads::{Reserved, Uploads};
    use super::*;

    const GZIP: [(&str, &str); 1] = [(ENCODING, "gzip")];

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |&(name, value)| {
            let name = http::HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// With a budget of so many bytes.
    async fn read_within(bytes: Vec<u8>, limit: usize, budget: usize) -> Result<Upload, Refused> {
        let reserved = Reserved::none(&Uploads::new(budget));
        read(&headers(&GZIP), Upload::new(bytes.into(), reserved), limit).await
    }

    #[tokio::test]
    async fn it_is_read_up_to_the_limit_and_no_further() {
        let (bomb, limit) = (gzip(&vec![0; 1 << 20]), 1 << 20);
        let whole = read_within(bomb.clone(), limit, limit).await.unwrap();
        assert_eq!(whole.bytes.len(), limit);
        assert!(matches!(
            read_within(bomb, limit - 1, limit).await,
            Err(Refused::Body(BodyError::TooLarge { .. }))
        ));
    }

    #[tokio::test]
    async fn what_it_expands_to_counts_against_the_budget_for_bodies() {
        let (bomb, limit) = (gzip(&vec![0; 1 << 20]), 1 << 20);
        assert!(matches!(
            read_within(bomb, limit, limit / 2).await,
            Err(Refused::Body(BodyError::NoRoom(_)))
        ));
    }

    #[tokio::test]
    async fn what_is_no_gzip_or_cut_off_is_refused() {
        let cut = gzip(b"hello");
        for bytes in [b"hello".as_slice(), &cut[..cut.len() - 9]] {
            let refused = read_within(bytes.to_vec(), 100, 100).await;
            assert!(matches!(
                refused,
                Err(Refused::Body(BodyError::Coding { .. }))
            ));
        }
    }

    #[tokio::test]
    async fn another_encoding_is_refused_by_its_name() {
        let message = Upload::new(bytes::Bytes::new(), Reserved::none(&Uploads::new(9)));
        let snappy = headers(&[(ENCODING, "snappy")]);
        let refused = read(&snappy, message, 10).await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            "grpc-encoding: expected identity or gzip, got `snappy`"
        );
    }
}
