//! Archives come apart, go together, and run.

use aegis_protocol::Tensor;

use super::*;
use crate::fixture::{identity, saved};
use crate::{Device, Module};

#[test]
fn what_is_read_and_written_is_the_same_archive() {
    let archive = Archive::read(identity()).unwrap();
    let bytes = archive.write().unwrap();
    assert_eq!(Archive::read(&bytes).unwrap(), archive);
    assert_eq!(archive.write().unwrap(), bytes);
    Module::load_bytes(&bytes, Device::Cpu).unwrap();
}

#[test]
fn the_source_is_what_runs() {
    let bytes = saved("(x: Tensor) -> Tensor: return torch.mul(x, 3)");
    assert!(
        Archive::read(&bytes)
            .unwrap()
            .source()
            .unwrap()
            .contains("torch.mul(x, 3)")
    );
    let module = Module::load_bytes(&bytes, Device::Cpu).unwrap();
    let output = module
        .run(&[Tensor::from_f32([1], &[2.0]).unwrap()])
        .unwrap();
    assert_eq!(output, [Tensor::from_f32([1], &[6.0]).unwrap()]);
}

#[test]
fn records_start_where_weights_can_be_mapped() {
    let bytes = saved("(x: Tensor) -> Tensor: return x");
    let mut zip = ZipArchive::new(Cursor::new(&bytes)).unwrap();
    for index in 0..zip.len() {
        let start = zip.by_index(index).unwrap().data_start();
        assert_eq!(start % u64::from(ALIGNMENT), 0);
    }
}

#[test]
fn bytes_that_are_no_archive_are_refused() {
    assert!(matches!(
        Archive::read(b"not a zip"),
        Err(ArchiveError::Zip(_))
    ));
    let half = &identity()[..identity().len() / 2];
    assert!(Archive::read(half).is_err());
}

#[test]
fn an_archive_without_a_program_says_so() {
    let mut archive = Archive { records: vec![] };
    assert!(matches!(archive.source(), Err(ArchiveError::NoSource)));
    assert!(matches!(
        archive.replace_source("x"),
        Err(ArchiveError::NoSource)
    ));
}
